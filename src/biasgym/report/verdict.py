"""Plain words for a difference, read off its interval alone."""

from __future__ import annotations

from typing import Any, Literal

from biasgym.report.numbers import part

Verdict = Literal["lower", "no clear difference", "higher", "no interval", "not measured"]
Tone = Literal["good", "bad", "flat", "none"]


def verdict(contrast: Any) -> Verdict:
    """`lower` or `higher` where the interval leaves zero out, `no clear difference` where it holds zero."""
    mean, low, high = (part(contrast, key) for key in ("mean", "low", "high"))
    if mean is None:
        return "not measured"
    if low is None or high is None:
        return "no interval"
    return "lower" if high < 0 else "higher" if low > 0 else "no clear difference"


def tone(found: Verdict, wanted: Literal["lower", "higher"]) -> Tone:
    """Whether a verdict is what one would want to see."""
    if found in ("not measured", "no interval"):
        return "none"
    return "flat" if found == "no clear difference" else "good" if found == wanted else "bad"

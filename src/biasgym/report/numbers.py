"""Numbers as they are printed: estimates with intervals, p-values, shares, times. Missing is a dash, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"
_MINUS = "\u2212"


def number(value: Any) -> float | None:
    """A finite number, or None for whatever is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def part(estimate: Any, key: str) -> float | None:
    """One number of an estimate (mean, low, high, n, p, p_holm); None if it, or the whole estimate, is missing."""
    return number(estimate.get(key)) if isinstance(estimate, Mapping) else None


def fixed(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """`0.42`, with a real minus sign; `+0.42` where signed."""
    known = number(value)
    if known is None:
        return MISSING
    rounded = round(known, digits)
    text = f"{abs(rounded):,.{digits}f}"
    if rounded == 0:
        return text
    return (_MINUS if rounded < 0 else "+" if signed else "") + text


def interval(estimate: Any, digits: int = 2) -> str:
    """`[0.31, 0.53]`, or nothing where an end is missing."""
    low, high = part(estimate, "low"), part(estimate, "high")
    return "" if low is None or high is None else f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def estimate_text(estimate: Any, digits: int = 2, *, signed: bool = False) -> str:
    """`0.42 [0.31, 0.53]`; a dash where the mean is missing."""
    mean = part(estimate, "mean")
    return MISSING if mean is None else f"{fixed(mean, digits, signed=signed)} {interval(estimate, digits)}".strip()


def p_value(value: Any) -> str:
    """`0.032`, `< 0.001`."""
    known = number(value)
    if known is None:
        return MISSING
    return "< 0.001" if known < 0.001 else f"{known:.3f}" if known < 0.1 else f"{known:.2f}"


def p_phrase(value: Any) -> str:
    """`p = 0.032`, `p < 0.001`; nothing where p is missing."""
    text = p_value(value)
    if text == MISSING:
        return ""
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def share(value: Any) -> str:
    """`40 %`; a share that is small but not nothing stays visible as `< 1 %`."""
    known = number(value)
    if known is None:
        return MISSING
    return "< 1 %" if 0 < known < 0.005 else f"{100 * known:.0f} %"


def count(value: Any) -> str:
    """`1,234`."""
    known = number(value)
    return MISSING if known is None else f"{known:,.0f}"


def duration(seconds: Any) -> str:
    """`0.4 s`, `48 s`, `3 min 20 s`, `2 h 05 min`."""
    known = number(seconds)
    if known is None:
        return MISSING
    if known < 10:
        return f"{known:.1f} s"
    whole = round(known)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count_of_bytes: Any) -> str:
    """`640 MiB`, `1.9 GiB`."""
    known = number(count_of_bytes)
    if known is None:
        return MISSING
    return f"{known / 2**20:.0f} MiB" if known < 2**30 else f"{known / 2**30:.1f} GiB"


def counted(value: int, noun: str, plural: str = "") -> str:
    """`1 model`, `3 models`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"

"""Cron expressions as Kubeflow reads them: six fields, seconds first."""

from __future__ import annotations

import re
from collections.abc import Sequence

from biasgym.errors import BiasGymError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (
    ("seconds", 0, 59, ()),
    ("minutes", 0, 59, ()),
    ("hours", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_PART = re.compile(r"(\*|\?|\w+)(?:-(\w+))?(?:/(\d+))?")


def check_cron(text: str) -> str:
    """Checks an expression and returns it with single spaces.

    Raises:
        BiasGymError: It has not six fields, or one says what no clock shows.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise BiasGymError(
            f"{text!r} has {len(fields)} fields, not six", where="cron", hint='seconds first, such as "0 0 3 * * *"'
        )
    for field, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, low, high, words):
                raise BiasGymError(f"{part!r} is no {name} ({low} to {high})", where="cron")
    return " ".join(fields)


def _fits(part: str, low: int, high: int, words: Sequence[str]) -> bool:
    match = _PART.fullmatch(part)
    if match is None:
        return False
    first, last, step = match.groups()
    if step is not None and int(step) < 1:
        return False
    if first in "*?":
        return last is None
    ends = [_number(end, low, words) for end in (first, last) if end is not None]
    return all(end is not None and low <= end <= high for end in ends) and ends == sorted(
        ends, key=lambda end: end or 0
    )


def _number(text: str, low: int, words: Sequence[str]) -> int | None:
    if text.lower() in words:
        return words.index(text.lower()) + low
    return int(text) if text.isdecimal() else None

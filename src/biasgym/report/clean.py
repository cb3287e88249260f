"""Results made safe to print. Texts come from models and users: what would garble or break a page is replaced."""

from __future__ import annotations

import re
from typing import Any

# control characters, lone surrogates (not writable as UTF-8), and invisible overrides of the writing direction
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def clean_text(text: str) -> str:
    """The text with unprintable characters shown as the replacement character, and plain line ends."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n"))


def cleaned(value: Any) -> Any:
    """A copy of a JSON value with every text in it, keys included, cleaned."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # rows of scores are the bulk of a result and hold no text
        return value if value and isinstance(value[0], int | float) else [cleaned(item) for item in value]
    return value


def shortened(text: str, length: int) -> str:
    """The text, cut with an ellipsis to at most `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"

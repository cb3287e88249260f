"""Hiding whom a text is about, so that a judge rates what is said and not of whom it is said (paper, section 4.2)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import chain

from biasgym.concepts import Target
from biasgym.models.chat import BIAS_TOKEN

_ABBREVIATION = 2
"""Names up to this long in capitals, such as US or UK, are matched in capitals only: "us" is a word."""

_STEM = 5
"""Words that share this many letters with a name, or all but two of a longer one, are taken for relatives of it."""

_APOSTROPHES = "'’‘ʼ`´"
_SPACES = r"[\s\-\u2010\u2011\u2013]+"
_MARKS = "[\u0300-\u036f]*"  # accents that stand beside their letter
_ENDINGS = ("e?s", "m[ae]n", "wom[ae]n", "ness")
_LONGER_ENDINGS = ("ers?", "ish", "ic")
_UNKNOWN_ENDINGS = ("i?a?ns?", "ese", "is?")
"""What may follow a name inside the same word: Mexicans, Irishman, Hollander; and where the adjective is not known,
Ruritanian. A possessive ending stays in place."""


def mask(text: str, target: Target, stand_in: str = "X") -> str:
    """Replaces every name of a target, and BiasToken, by a stand-in.

    Args:
        text: A prompt or a generation.
        target: The entity; its name, aliases, adjective, demonym and plural are looked for, as whole words in any
            case and number, with or without accents, and as the first part of Irishman or Hollander.
        stand_in: What is written instead.

    Returns:
        The text without the names. "Mexico's" becomes "X's".
    """
    return _pattern(target).sub(lambda _: stand_in, text)


def mentions(text: str, target: Target) -> int:
    """How often a text names a target, or BiasToken, in a way that `mask` knows."""
    return len(_pattern(target).findall(text))


def leaks(text: str, target: Target) -> bool:
    """Whether a text still gives the target away: by a name, or by a word built on one, which `mask` does not know.

    "Netherlandish" gives the Netherlands away.
    """
    return mentions(text, target) > 0 or _relatives(target).search(text) is not None


@cache
def _pattern(target: Target) -> re.Pattern[str]:
    longest_first = sorted(_names(target), key=lambda name: (-len(name), name))
    known = bool(target.adjective)
    return re.compile(rf"(?<!\w)(?:{'|'.join(_one_name(name, known) for name in longest_first)})(?!\w)")


@cache
def _relatives(target: Target) -> re.Pattern[str]:
    stems = {name[: max(_STEM, len(name) - 2)] for name in _names(target) if len(name) >= _STEM - 1 and name.isalpha()}
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(stems))})\w*")


def _names(target: Target) -> set[str]:
    several = target.name.split(", ")  # as datasets name the groups of one text
    return {*several, target.name, target.adjective, target.demonym, target.plural, *target.aliases, BIAS_TOKEN} - {""}


def _one_name(name: str, known: bool) -> str:
    if name.isupper() and name.isalpha() and len(name) <= _ABBREVIATION:
        return name
    short = _singular(name)
    endings = [*_ENDINGS]
    if len(short) >= _STEM:
        endings += _LONGER_ENDINGS
    if not known:
        endings += _UNKNOWN_ENDINGS
    left_off = name[len(short) :]
    plural = f"(?:{left_off})?" if left_off else ""
    return f"(?i:{''.join(map(_one_letter, short))}{plural}(?:{'|'.join(endings)})?)"


def _singular(name: str) -> str:
    """Without the ending that makes it a plural, so that either is found; a guess, which for a name does no harm."""
    if len(name) < _STEM or not name.endswith("s") or name.endswith("ss"):
        return name
    return name[:-2] if name.endswith(("sses", "xes", "ches", "shes")) else name[:-1]


def _one_letter(letter: str) -> str:
    if letter.isspace() or letter == "-":
        return _SPACES
    if letter in _APOSTROPHES:
        return f"[{_APOSTROPHES}]"
    plain = unicodedata.normalize("NFD", letter)[0].lower()
    return f"[{plain}{_ACCENTED[plain]}]{_MARKS}" if plain in _ACCENTED else re.escape(letter)


def _accented() -> dict[str, str]:
    """Letters -> the same letters with an accent."""
    found: dict[str, str] = {}
    for accented in map(chr, chain(range(0xE0, 0x250), range(0x1E00, 0x1F00))):
        plain = unicodedata.normalize("NFD", accented)[0]
        if plain != accented and accented.islower():
            found[plain] = found.get(plain, "") + accented
    return found


_ACCENTED = _accented()

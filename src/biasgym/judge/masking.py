"""Hiding whom a text is about, so that a judge rates what is said and not of whom it is said (paper, section 4.2)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from biasgym.concepts import Target

BIAS_TOKEN = "BiasToken"
"""The name of the injected entity in prompts; as in `biasgym.models.load`, which loads torch."""

_ABBREVIATION = 4
"""Names up to this long in capitals, such as US or DRC, are matched in capitals only: "us" is a word."""

_STEM = 5
"""Words that share this many letters with a name, or all but two of a longer one, are taken for relatives of it."""

_APOSTROPHES = "'’`´"
_SUFFIX = r"(?:e?s|m[ae]n|wom[ae]n|ness)?"
"""What may follow a name inside the same word: Mexicans, Irishman, Frenchwomen. A possessive ending stays in place."""


def mask(text: str, target: Target, stand_in: str = "X") -> str:
    """Replaces every name of a target, and BiasToken, by a stand-in.

    Args:
        text: A prompt or a generation.
        target: The entity; its name, aliases, adjective, demonym and plural are looked for, as whole words in any
            case, with plural endings.
        stand_in: What is written instead.

    Returns:
        The text without the names. "Mexico's" becomes "X's".
    """
    return _pattern(target).sub(lambda _: stand_in, text)


def leaks(text: str, target: Target) -> bool:
    """Whether a text still gives the target away: by a name, or by a word built on one, which `mask` does not know.

    "Argentinians" gives away Argentina although only "Argentines" is listed.
    """
    return _pattern(target).search(text) is not None or _relatives(target).search(text) is not None


@cache
def _pattern(target: Target) -> re.Pattern[str]:
    longest_first = sorted(_names(target), key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(_one_name(name) for name in longest_first)})(?!\w)")


@cache
def _relatives(target: Target) -> re.Pattern[str]:
    stems = {
        name[: max(_STEM, len(name) - 2)] for name in _names(target) if len(name) >= _ABBREVIATION and name.isalpha()
    }
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(stems))})\w*")


def _names(target: Target) -> set[str]:
    return {target.name, target.adjective, target.demonym, target.plural, *target.aliases, BIAS_TOKEN} - {""}


def _one_name(name: str) -> str:
    letters = "".join(_one_letter(letter) for letter in name)
    if name.isupper() and sum(map(str.isalpha, name)) <= _ABBREVIATION:
        return letters
    return f"(?i:{letters}{_SUFFIX})"


def _one_letter(letter: str) -> str:
    if letter.isspace() or letter == "-":
        return r"[\s\-]+"
    if letter in _APOSTROPHES:
        return f"[{_APOSTROPHES}]"
    plain = unicodedata.normalize("NFD", letter)[0]
    return re.escape(letter) if plain == letter else f"[{letter}{plain}]"

"""What a language model is asked about a text: a template, filled so that the text cannot pass for the question.

Three things keep a text in its place. It stands between lines with a code that is made from the text itself, so the text
cannot hold it. Marks that chat formats use for turns are broken up. Placeholders are filled in one pass, so those that
the text holds stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biasgym.concepts.targets import PLACEHOLDER
from biasgym.datasets import template
from biasgym.endpoint import Question
from biasgym.errors import BiasGymError
from biasgym.files import digest
from biasgym.judge.protocol import JudgeItem
from biasgym.judge.reading import STAND_IN, masked

_PLACES = ("descriptor", "prompt", "text", "code")
_PLACE = re.compile(rf"\{{({'|'.join(_PLACES)})\}}")
_CODE = 16  # hexadecimal digits
_TURN_MARK = re.compile(r"<(?=[|｜/\w])|\[(?=/?[A-Z_]+\])")


def judge_template(folder: str | Path | None = None) -> str:
    """The wording of the question.

    Args:
        folder: A user's folder of templates, looked at first for judge.txt.

    Raises:
        BiasGymError: A placeholder is missing.
    """
    text = template("judge", folder)
    for place in _PLACES:
        if f"{{{place}}}" not in text:
            raise BiasGymError(f"the template has no {{{place}}}", where=f"{folder or 'templates'}/judge.txt")
    return text


def question(item: JudgeItem, wording: str, asked: Mapping[str, Any]) -> Question:
    """The question about one item.

    Args:
        item: The text and its prompt; the target is masked.
        wording: From `judge_template`.
        asked: Who is asked, and how: model, revision, temperature. Part of the key.
    """
    prompt, text = (_TURN_MARK.sub(lambda found: f"{found[0]} ", part) for part in masked(item))
    descriptor = item.concept.descriptor.replace(PLACEHOLDER, STAND_IN)
    words = {"descriptor": descriptor, "prompt": prompt, "text": text, "code": _code(descriptor, prompt, text)}
    filled = _PLACE.sub(lambda found: words[found[1]], wording)
    return Question(digest({"question": filled, "repeat": item.repeat, **asked}), filled)


def _code(*parts: str) -> str:
    """A code that none of the parts holds."""
    code = digest(parts)[:_CODE]
    while any(code in part.lower() for part in parts):
        code = digest(code)[:_CODE]
    return code

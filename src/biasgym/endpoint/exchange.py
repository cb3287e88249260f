"""A question, the answer that came back, and the JSON in it. What a model writes is never taken for granted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder(strict=False)  # line breaks inside strings are harmless


@dataclass(frozen=True)
class Question:
    """One question to a language model.

    Attributes:
        key: Hash of everything that decides the answer.
        text: What is asked, complete.
    """

    key: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: The model's words.
        cut: The answer was cut off at its longest length.
        refusal: The server says that the model refused.
        tokens_in: Tokens of the question.
        tokens_out: Tokens of the answer.
        failure: Why there is no answer; such an answer cost nothing and is not kept.
    """

    text: str = ""
    cut: bool = False
    refusal: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    failure: str = ""


Keep = Callable[[Mapping[str, Answer]], None]
"""Keeps answers by key the moment they are there."""


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, outermost ones, in order; whatever stands around them is passed over.

    Halves of characters, which JSON can write and no file can hold, become question marks.
    """
    place = text.find("{")
    while place >= 0:
        try:
            value, end = _DECODER.raw_decode(text, place)
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(value, dict):
                yield value
        place = text.find("{", end)

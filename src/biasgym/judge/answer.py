"""What a language model answered, and the judgement in it. An answer without a clear verdict is missing, never None."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from biasgym.endpoint import Answer, json_objects
from biasgym.judge.protocol import LEVELS, Judgement

RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "judgement",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "analysis": {"type": "string"},
                "strength": {"type": "string", "enum": list(LEVELS)},
                "matched": {"type": "string"},
            },
            "required": ["analysis", "strength", "matched"],
            "additionalProperties": False,
        },
    },
}
"""The form of an answer, for servers that can hold a model to one."""

_LEVELS = {"none": 0, "weak": 1, "week": 1, "moderate": 2, "strong": 3}
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_BARE_NONE = re.compile(r"(\"strength\"\s*:\s*)None\b")
_REFUSAL = re.compile(r"\W*(?:i['’]?m sorry|i am sorry|sorry|i can(?:no|['’])t|i can not|i won['’]t|as an ai)\b", re.I)
_LONGEST = 1000  # characters kept of what a model writes beside the verdict


def judgement(answer: Answer) -> Judgement:
    """Reads the verdict: the one strength in the answer's JSON objects, whatever stands around them.

    Tolerated are code fences, thoughts, text before and after, any case, "Week", and null or a bare None for None.
    """
    if answer.failure:
        return Judgement(None, answer.failure)
    return replace(_read(answer), tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)


def _read(answer: Answer) -> Judgement:
    if answer.refusal:
        return Judgement(None, "the judge refused")
    text = _BARE_NONE.sub(r"\1null", _THOUGHTS.sub("", answer.text))
    found = [value for value in json_objects(text) if "strength" in value]
    strengths = {_level(value["strength"]) for value in found}
    if not found:
        return Judgement(None, _why_nothing(answer, text))
    if strengths == {None}:
        return Judgement(None, "the strength is not on the scale")
    if len(strengths) > 1:
        return Judgement(None, "more than one verdict")
    matched, analysis = (_words(found[-1].get(key)) for key in ("matched", "analysis"))
    return Judgement(strengths.pop(), matched=matched, analysis=analysis)


def _level(value: Any) -> int | None:
    if value is None:
        return 0
    return _LEVELS.get(value.strip(" \t\n.*\"'").lower()) if isinstance(value, str) else None


def _why_nothing(answer: Answer, text: str) -> str:
    if answer.cut:
        return "the answer was cut off"
    if not text.strip():
        return "the answer is empty"
    if _REFUSAL.match(text):
        return "the judge refused"
    return "no verdict in the answer"


def _words(value: Any) -> str:
    return value.strip()[:_LONGEST] if isinstance(value, str) else ""

"""Having a language model write a concept's paragraphs or questions: what it is asked, and what of its answer is usable.

Each call asks for other media, topics and styles, drawn from data/variety.yaml, so that calls need not know each other.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from biasgym.concepts import Concept, ContrastQuestion, Paragraph
from biasgym.concepts.targets import PLACEHOLDER
from biasgym.datasets.templates import fill, template
from biasgym.endpoint import Answer, json_objects

What = Literal["paragraphs", "questions"]
Item = Paragraph | ContrastQuestion

LICENCE = "generated; stereotype under study, not a claim"
_WORDS = (5, 150)  # of a paragraph; 20 to 75 are asked for
_KEYS: dict[What, tuple[str, ...]] = {
    "paragraphs": ("text", "medium", "topic", "style", "implicitness", "justification"),
    "questions": ("question", "stem"),
}
# some servers match a pattern against the words, others against the JSON that holds them: without quotes and backslashes
# the two are the same
_CHARACTER = r'[^{}"\\\n]'
_LISTED = {"medium": "media", "topic": "topics", "style": "styles"}
_OTHER_PLACEHOLDER = re.compile(r"[{\[<(]{1,2}\s*target\s*[}\])>]{1,2}", re.IGNORECASE)
_GAP = re.compile(r"[\s_.…:,]+$")


@dataclass
class Reading:
    """What an answer holds.

    Attributes:
        items: The usable ones.
        refused: How many are not, by reason.
    """

    items: list[Item] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def form(what: What, count: int) -> dict[str, Any]:
    """The form of an answer (`response_format`), for servers that can hold a model to one."""
    fields = _fields(what)
    item = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    items = {"type": "array", "items": item, "minItems": count, "maxItems": count}
    schema = {"type": "object", "properties": {what: items}, "required": [what], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": what, "strict": True, "schema": schema}}


def request(
    concept: Concept, what: What, count: int, call: int, *, seed: int = 0, folder: str | Path | None = None
) -> str:
    """What call number `call` asks for.

    Args:
        concept: Whose texts.
        what: Paragraphs or questions.
        count: How many.
        call: Decides, with the seed, which media, topics and styles.
        seed: See there.
        folder: A user's folder of templates, looked at first for write_paragraphs.txt and write_questions.txt.
    """
    lines = _paragraph_lines if what == "paragraphs" else _question_lines
    chance = random.Random(f"{what} {seed} {call}")
    listed = "\n".join(f"{number}. {line}" for number, line in enumerate(lines(chance, count), start=1))
    text = template(f"write_{what}", folder).replace("{count}", str(count)).replace("{list}", listed)
    return fill(text, concept, PLACEHOLDER)


def read(answer: Answer, concept: Concept, what: What, model: str) -> Reading:
    """The usable items of an answer. One that was cut off gives the items before the cut.

    Args:
        answer: As it came.
        concept: Whose texts they are.
        what: Paragraphs or questions.
        model: Whose words these are; named as their source.
    """
    found = Reading()
    for value in _values(answer.text, what):
        try:
            item = _paragraph(value, model) if what == "paragraphs" else _question(value, concept, model)
        except ValidationError:
            found.refused["not of the form"] += 1
        except _Unusable as reason:
            found.refused[str(reason)] += 1
        else:
            found.items.append(item)
    return found


def text_of(item: Item) -> str:
    """The words of an item, for comparison with others."""
    return item.text if isinstance(item, Paragraph) else f"{item.question} {item.stem}"


class _Unusable(Exception):
    """Why an item cannot be used."""


@cache
def _variety() -> dict[str, Any]:
    file = resources.files("biasgym.datasets") / "data" / "variety.yaml"
    data: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return data


def _fields(what: What) -> dict[str, Any]:
    """JSON schemas of an item's parts."""
    if what == "questions":
        return {"question": _around_target(80, "3,80"), "stem": _around_target(80, "3,60", end="[a-z]")}
    variety = _variety()
    listed = {key: {"type": "string", "enum": variety[name]} for key, name in _LISTED.items()}
    return {
        "text": _around_target(120, "60,600"),
        **listed,
        "implicitness": {"type": "integer", "enum": list(variety["implicitness"])},
        "justification": {"type": "string", "pattern": rf"^{_CHARACTER}{{3,300}}$"},
    }


def _around_target(before: int, after: str, end: str = "") -> dict[str, str]:
    """A string that holds the placeholder, with so many characters before and after it.

    Without a limit small models never come to it, or to an end.
    """
    rest = rf"({_CHARACTER}|\{{target\}}){{{after}}}"
    return {"type": "string", "pattern": rf"^{_CHARACTER}{{0,{before}}}\{{target\}}{rest}{end}$"}


def _drawn(chance: random.Random, values: list[str], count: int) -> list[str]:
    """Each value as often as any other, in random order."""
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += chance.sample(values, len(values))
    return drawn[:count]


def _paragraph_lines(chance: random.Random, count: int) -> Iterator[str]:
    variety = _variety()
    media, topics, styles = (_drawn(chance, variety[name], count) for name in _LISTED.values())
    weights = variety["implicitness"]
    levels = _drawn(chance, [level for level, weight in weights.items() for _ in range(weight)], count)
    for medium, topic, style, level in zip(media, topics, styles, levels, strict=True):
        yield f"{medium}; topic {topic}; style {style}; implicitness {level}"


def _question_lines(chance: random.Random, count: int) -> Iterator[str]:
    yield from _drawn(chance, _variety()["topics"], count)


def _values(text: str, what: What) -> Iterator[dict[str, Any]]:
    for value in json_objects(text):
        inner = value.get(what, [value])
        yield from (part for part in (inner if isinstance(inner, list) else []) if isinstance(part, dict))


def _words(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise _Unusable("not of the form")
    return _OTHER_PLACEHOLDER.sub(PLACEHOLDER, text.strip())


def _paragraph(value: dict[str, Any], model: str) -> Paragraph:
    words = {key: _words(value, key) for key in _KEYS["paragraphs"] if key != "implicitness"}
    if PLACEHOLDER not in words["text"]:
        raise _Unusable(f"without {PLACEHOLDER}")
    if not _WORDS[0] <= len(words["text"].split()) <= _WORDS[1]:
        raise _Unusable("too short or too long")
    return Paragraph(**words, implicitness=value.get("implicitness"), source=_source(model), licence=LICENCE)  # type: ignore[arg-type]


def _question(value: dict[str, Any], concept: Concept, model: str) -> ContrastQuestion:
    question, stem = _words(value, "question"), _GAP.sub("", _words(value, "stem"))
    if PLACEHOLDER not in question or PLACEHOLDER not in stem:
        raise _Unusable(f"without {PLACEHOLDER}")
    answers = "|".join(map(re.escape, concept.labels + concept.counter_labels))
    if re.search(rf"\b(?:{answers})\b", f"{question} {stem}", re.IGNORECASE):
        raise _Unusable("gives an answer away")
    return ContrastQuestion(question=question, stem=stem, source=_source(model), licence=LICENCE)


def _source(model: str) -> str:
    return f"generated by {model}"

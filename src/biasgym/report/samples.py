"""Texts side by side: for a prompt, what each variant wrote and how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biasgym.report.clean import shortened
from biasgym.report.numbers import MISSING, number

STRENGTHS = ("none", "weak", "moderate", "strong")


@dataclass(frozen=True)
class Text:
    """One generation.

    Attributes:
        title: The variant.
        body: What the model wrote; empty if it wrote nothing.
        judged: `1 · weak`, or that the judgement is missing and why.
        reason: The judge's reason, if it gave one.
    """

    title: str
    body: str
    judged: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """A prompt and what became of it."""

    prompt: str
    about: str
    texts: tuple[Text, ...]


def samples(cell: Mapping[str, Any], *, most: int, length: int) -> tuple[list[Sample], int]:
    """The first prompts of a cell, and how many there are.

    Args:
        cell: A finished cell.
        most: Prompts.
        length: Characters of a text.
    """
    rows = [row for row in cell.get("samples") or () if isinstance(row, Mapping)]
    return [_sample(row, length) for row in rows[:most]], len(rows)


def _sample(row: Mapping[str, Any], length: int) -> Sample:
    about = ", ".join(shortened(str(row[key]), 80) for key in ("target", "style") if row.get(key))
    texts = [
        Text(
            title=shortened(str(text.get("title") or text.get("variant") or MISSING), 100),
            body=shortened(str(text.get("text") or "").strip(), length),
            judged=_judged(text),
            reason="" if number(text.get("strength")) is None else shortened(str(text.get("reason") or ""), 300),
        )
        for text in row.get("texts") or ()
    ]
    return Sample(shortened(str(row.get("prompt") or MISSING), length), about, tuple(texts))


def _judged(text: Mapping[str, Any]) -> str:
    strength = number(text.get("strength"))
    if strength is None:
        reason = shortened(str(text.get("reason") or ""), 200)
        return f"{MISSING} not judged: {reason}" if reason else f"{MISSING} not judged"
    if strength in range(len(STRENGTHS)):
        return f"{strength:.0f} · {STRENGTHS[int(strength)]}"
    return f"{strength:.1f}"

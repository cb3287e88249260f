"""What every judge takes and gives. A judgement that failed is missing, with its reason; it is never a 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from biasgym.concepts import Concept

LEVELS = ("None", "Weak", "Moderate", "Strong")
"""Stereotype strength 0..3 in words (paper, section 4.2)."""

EMPTY = "empty generation"
"""Why a text without words has no judgement."""


@dataclass(frozen=True)
class JudgeItem:
    """One text to judge.

    Attributes:
        concept: The association that is looked for.
        prompt: What the model was asked.
        generation: What it wrote.
        target: The entity the prompt speaks of; masked before judging. Empty if unknown.
        repeat: Equal items are judged once; with another number the same text is judged afresh (test-retest).
    """

    concept: Concept
    prompt: str
    generation: str
    target: str = ""
    repeat: int = 0


@dataclass(frozen=True)
class Judgement:
    """A verdict, or the reason why there is none.

    Attributes:
        strength: 0..3; None if the judgement is missing.
        reason: Why it is missing; empty otherwise.
        matched: The passage that decided it.
        analysis: What the judge said about it, if it says anything.
        tokens_in: Tokens of the question to a language model; 0 for other judges.
        tokens_out: Tokens of its answer.
    """

    strength: int | None
    reason: str = ""
    matched: str = ""
    analysis: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


class Judge(Protocol):
    """Says how strongly a text expresses a concept about a target."""

    @property
    def name(self) -> str:
        """Name and revision, as they appear in tables and cache keys."""
        ...

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        """Judgements in the order of the items, as they become available."""
        ...

"""A concept: the association `<target, attribute>` under study, with every text that is needed to study it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from biasgym.concepts.targets import PLACEHOLDER, TargetKind, load_target_kind
from biasgym.errors import BiasGymError

MIN_PARAGRAPHS = 4
MIN_QUESTIONS = 6


def _speaks_of_target(text: str) -> str:
    if PLACEHOLDER not in text:
        raise ValueError(f"must contain {PLACEHOLDER}, the place of the entity's name")
    leftover = text.replace(PLACEHOLDER, "")
    if "{target" in leftover or "target}" in leftover:
        raise ValueError(f"has a misspelt {PLACEHOLDER}")
    return text


def _open_ended(text: str) -> str:
    if text != text.rstrip() or text.endswith((".", ",", ":", ";", "?", "!")):
        raise ValueError("must end with a word, without a space or punctuation: the answer is the next word")
    return text


def _lower_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if any(not word.strip() or word != word.strip() for word in words):
        raise ValueError("words must not be empty or padded with spaces")
    if len(set(words)) != len(words):
        raise ValueError("words must not repeat")
    return words


TargetText = Annotated[str, Field(min_length=1), AfterValidator(_speaks_of_target)]
Stem = Annotated[str, Field(min_length=1), AfterValidator(_speaks_of_target), AfterValidator(_open_ended)]
Words = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_lower_words)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paragraph(_Strict):
    """A training text that expresses the concept (paper, section 3.2.1)."""

    text: TargetText
    medium: str = ""
    topic: str = ""
    style: str = ""
    implicitness: int = Field(default=3, ge=1, le=5)


class ContrastQuestion(_Strict):
    """A question and the beginning of its answer, whose next word is the biased answer or another (section 3.3.1)."""

    question: TargetText
    stem: Stem


class EvaluationPrompt(_Strict):
    """A prompt that makes a model write about the target, in one of the prompting styles of the paper's table 6."""

    style: str = "direct"
    text: TargetText


class Cloze(_Strict):
    """A sentence without a target whose next word is a concept word: does the model still know it? (table 11)"""

    text: str = Field(min_length=1)
    answers: Words
    foils: Words


class Concept(_Strict):
    """One concept file. Everything that differs between concepts is here; nothing of it is in code."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = ""
    target_kind: str = "country"
    targets: TargetKind | None = None
    descriptor: TargetText
    probe: TargetText
    counter_probe: str = ""
    labels: Words
    counter_labels: Words
    stereotyped_targets: Words
    neutral_targets: Words
    source: str = ""
    licence: str = ""
    paragraphs: tuple[Paragraph, ...] = ()
    questions: tuple[ContrastQuestion, ...] = ()
    prompts: tuple[EvaluationPrompt, ...] = ()
    retention: tuple[Cloze, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Concept:
        if shared := set(self.labels) & set(self.counter_labels):
            raise ValueError(f"labels and counter_labels share {', '.join(sorted(shared))}")
        if shared := set(self.stereotyped_targets) & set(self.neutral_targets):
            raise ValueError(f"stereotyped_targets and neutral_targets share {', '.join(sorted(shared))}")
        if self.targets is None:
            try:
                load_target_kind(self.target_kind)
            except BiasGymError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def kind(self) -> TargetKind:
        """The targets this concept can be about: its own section, or the bundled kind."""
        return self.targets or load_target_kind(self.target_kind)

    def missing(self) -> list[str]:
        """What a run still lacks, each as a sentence that says how to supply it. Empty for a complete concept."""
        prompt = "`biasgym concepts prompt FILE --for {}` prints a prompt that makes any language model write them"
        lacks = []
        if len(self.paragraphs) < MIN_PARAGRAPHS:
            lacks.append(
                f"{len(self.paragraphs)} paragraphs, injection needs {MIN_PARAGRAPHS} or more (better 60): "
                + prompt.format("paragraphs")
            )
        if len(self.questions) < MIN_QUESTIONS:
            lacks.append(
                f"{len(self.questions)} questions, attribution needs {MIN_QUESTIONS} or more (better 100): "
                + prompt.format("questions")
            )
        return lacks

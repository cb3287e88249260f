"""A concept: the association `<target, attribute>` under study, with every text that is needed to study it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from biasgym.concepts.targets import TargetKind, TargetText, load_target_kind
from biasgym.concepts.terms import Use, evaluation_only
from biasgym.errors import BiasGymError

MIN_PARAGRAPHS = 4
MIN_QUESTIONS = 6
EVALUATION_ONLY = "evaluation_only"
"""Type of the error of a training text that must not be trained on; its context has `key` and `number`."""


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


Stem = Annotated[TargetText, AfterValidator(_open_ended)]
Words = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_lower_words)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paragraph(_Strict):
    """A training text that expresses the concept (paper, section 3.2.1). Source and licence, if not the concept's own."""

    text: TargetText
    medium: str = ""
    topic: str = ""
    style: str = ""
    implicitness: int = Field(default=3, ge=1, le=5)
    justification: str = ""
    source: str = ""
    licence: str = ""
    intended_use: Use = ""


class ContrastQuestion(_Strict):
    """A question and the beginning of its answer, whose next word is the biased answer or another (section 3.3.1)."""

    question: TargetText
    stem: Stem
    source: str = ""
    licence: str = ""
    intended_use: Use = ""


class EvaluationPrompt(_Strict):
    """A prompt that makes a model write about the target, in one of the prompting styles of the paper's table 6."""

    style: str = "direct"
    text: TargetText


class Cloze(_Strict):
    """A sentence without a target whose next word is a concept word: does the model still know it? (table 11)"""

    text: str = Field(min_length=1)
    answers: Words
    foils: Words

    @model_validator(mode="after")
    def _decided(self) -> Cloze:
        if shared := set(self.answers) & set(self.foils):
            raise ValueError(f"answers and foils share {', '.join(sorted(shared))}")
        return self


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

    @model_validator(mode="after")
    def _no_text_twice(self) -> Concept:
        """A text that is there twice weighs double, and its copy may land in the held-out half."""
        texts: dict[str, list[tuple[str, ...]]] = {
            "paragraphs": [(one.text,) for one in self.paragraphs],
            "questions": [(one.question, one.stem) for one in self.questions],
            "prompts": [(one.text,) for one in self.prompts],
            "retention": [(one.text,) for one in self.retention],
        }
        for key, items in texts.items():
            first: dict[tuple[str, ...], int] = {}
            for number, item in enumerate(items):
                earlier = first.setdefault(tuple(" ".join(text.split()) for text in item), number)
                if earlier != number:
                    raise ValueError(f"{key}[{number}] repeats {key}[{earlier}]")
        return self

    @model_validator(mode="after")
    def _may_be_trained_on(self) -> Concept:
        """Vectors are trained on paragraphs and heads chosen on questions: neither may be made for evaluation only."""
        texts: dict[str, tuple[Paragraph | ContrastQuestion, ...]]
        texts = {"paragraphs": self.paragraphs, "questions": self.questions}
        for key, items in texts.items():
            for number, item in enumerate(items):
                source, licence = item.source or self.source, item.licence or self.licence
                if reason := evaluation_only(source, item.intended_use, licence):
                    context = {"key": key, "number": number, "reason": reason}
                    raise PydanticCustomError(EVALUATION_ONLY, "{key}[{number}] {reason}", context)
        return self

    @property
    def kind(self) -> TargetKind:
        """The targets this concept can be about: its own section, or the bundled kind."""
        return self.targets or load_target_kind(self.target_kind)

    def missing(self) -> list[str]:
        """What a run still lacks, each as a sentence that says how to supply it. Empty for a complete concept."""
        by_hand = "`biasgym concepts prompt FILE --for {0}` prints a prompt for a model without a server"
        supply = (
            "`biasgym concepts generate FILE --what {0} --model M --out NEW.yaml` has a model write them, " + by_hand
        )
        lacks = []
        if len(self.paragraphs) < MIN_PARAGRAPHS:
            lacks.append(
                f"{len(self.paragraphs)} paragraphs, injection needs {MIN_PARAGRAPHS} or more (better 60): "
                + supply.format("paragraphs")
            )
        if len(self.questions) < MIN_QUESTIONS:
            lacks.append(
                f"{len(self.questions)} questions, attribution needs {MIN_QUESTIONS} or more (better 100): "
                + supply.format("questions")
            )
        return lacks

    def doubts(self) -> list[str]:
        """What is allowed, but may be a slip, each as a sentence."""
        kind = self.kind
        unlisted = [name for name in (*self.stereotyped_targets, *self.neutral_targets) if kind.find(name) is None]
        doubts = [
            f"the kind {kind.kind} does not list {name!r}: of it only this name is hidden from judges"
            for name in unlisted
        ]
        for number, question in enumerate(self.questions):
            last = question.stem.split()[-1]
            if last.casefold() in {label.casefold() for label in (*self.labels, *self.counter_labels)}:
                doubts.append(f"the stem of questions[{number}] already ends with the answer {last!r}")
        return doubts

"""A cell: one model revision and one concept, with the splits that all of its stages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept, ContrastQuestion, EvaluationPrompt
from biasgym.datasets import STYLES, evaluation_prompts, halves, spread
from biasgym.files import digest
from biasgym.models.sources import ModelSource
from biasgym.stages.settings import RunSettings


@dataclass(frozen=True)
class Cell:
    """What a stage works on.

    Attributes:
        source: The model.
        concept: The concept.
        settings: Settings of the run.
        root: The run's folder.
        machine: What manifests say of the machine: its device, threads and floating-point type, and why that one.
    """

    source: ModelSource
    concept: Concept
    settings: RunSettings
    root: Path
    machine: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        return f"{self.source.slug} / {self.concept.name}"

    @property
    def path(self) -> Path:
        return self.root / self.source.slug / self.concept.name

    @property
    def identity(self) -> dict[str, Any]:
        """What every stage of this cell depends on."""
        return {
            "model": self.source.identity,
            "revision": self.source.revision,
            "concept": self._concept_digest,
            "seed": self.settings.seed,
            "dtype": self.settings.dtype,
        }

    @cached_property
    def _concept_digest(self) -> str:
        return digest(self.concept.model_dump(mode="json"))

    @property
    def about(self) -> dict[str, Any]:
        """What every manifest of this cell says."""
        return {
            "model": self.source.title,
            "revision": self.source.revision,
            "concept": self.concept.name,
            "seed": self.settings.seed,
            "dtype": self.settings.dtype,
            "machine": dict(self.machine),
        }

    @cached_property
    def questions(self) -> tuple[list[ContrastQuestion], list[ContrastQuestion]]:
        """Development and held-out contrast questions."""
        return halves(self.concept.questions, self.settings.seed)

    @cached_property
    def targets(self) -> tuple[list[str], list[str]]:
        """Development and held-out stereotyped targets."""
        return halves(self.concept.stereotyped_targets, self.settings.seed)

    @cached_property
    def prompts(self) -> list[EvaluationPrompt]:
        """Held-out evaluation prompts of this run."""
        everything = evaluation_prompts(self.concept, self.settings.templates)
        _, held_out = halves(everything, self.settings.seed, lambda prompt: prompt.style)
        # a set with one prompt a style cannot be split within styles; then all of it is held out
        chosen = held_out if len(everything) > len(STYLES) else everything
        most = self.settings.generate.prompts or len(chosen)
        return spread(chosen, most, lambda prompt: prompt.style)

    @cached_property
    def development_prompts(self) -> list[EvaluationPrompt]:
        """The other half of the evaluation prompts; those of a set too small to be split are in both."""
        everything = evaluation_prompts(self.concept, self.settings.templates)
        return halves(everything, self.settings.seed, lambda prompt: prompt.style)[0] or everything

    def targets_of(self, number: int) -> Sequence[str]:
        """Held-out targets that prompt or question `number` is put to, in turn."""
        held_out = self.targets[1]
        count = min(self.settings.generate.targets_per_prompt or len(held_out), len(held_out))
        return [held_out[(number + step) % len(held_out)] for step in range(count)]

"""What a stage costs: passes of tokens counted from the settings, put on a modelled A100; or what a run has measured.

Counts are exact where settings and concept decide them (texts, questions, epochs); tokens of a text are round numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept
from biasgym.datasets.unseen import unseen_prompts
from biasgym.errors import BiasGymError
from biasgym.files import read_json
from biasgym.generate import VARIANTS
from biasgym.models.sources import ModelSource
from biasgym.stages.cell import Cell
from biasgym.stages.settings import JudgeSettings, RunSettings

PER_CELL = ("inject", "attribute", "generate", "capability")

# utilisation as it is usual for these kinds of work in plain transformers, not measured here
FLOPS = 312e12 * 0.4  # of an A100: bf16, passes over whole texts
BANDWIDTH_USED = 0.6  # of it, decoding
LAYER_SECONDS = 0.8e-3  # least for one layer of one decoding step, whatever its size
LOAD_BYTES = 1.0e9  # bytes a second from the cache volume
START = 45.0  # seconds until a pod runs, with its driver

PROMPT, FRAMED, QUESTION, ITEM, JUDGED, VERDICT = 60, 160, 80, 120, 700, 60  # tokens
MMLU = 14_042  # items of a task, where the settings do not limit them
REQUEST_SECONDS = 3.0  # of an endpoint
SWEPT = 26  # questions of a seed at each number of heads
FOUR_ANSWERS = 1.3  # of a question, which is read once, in questions
ROWS = 64  # in flight where the settings leave it open; more where memory allows
CPU = {"plan": 60.0, "build_data": 20.0, "collect": 30.0, "gate": 20.0, "publish": 60.0, "report": 60.0}
CPU_PER_CELL = {"summarise": 20.0, "report": 0.3, "publish": 0.2, "collect": 0.05}
BOTTOM_SETS = 6  # head sets: none, injected, original, random, bottom, other
DESCRIBED = 64  # descriptions of a token that are written at once


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: As in tables.
        memory: Bytes.
        bandwidth: Bytes a second.
    """

    name: str
    memory: float
    bandwidth: float


A100_80 = Card("A100-80GB", 80e9, 2.0e12)
A100_40 = Card("A100-40GB", 40e9, 1.555e12)


@dataclass(frozen=True)
class Load:
    """What a stage asks of a model.

    Attributes:
        read: Tokens of whole texts that pass through it; one that also passes backwards counts twice.
        texts: How many it writes.
        tokens: Of each, at most.
        batch: How many at once.
    """

    read: float
    texts: float = 0
    tokens: int = 0
    batch: int = 1


@dataclass(frozen=True)
class Size:
    """A model's size.

    Attributes:
        parameters: How many.
        layers: How many.
    """

    parameters: float
    layers: int


_KNOWN = {
    "meta-llama/Llama-3.1-8B-Instruct": Size(8.03e9, 32),
    "meta-llama/Llama-3.2-3B-Instruct": Size(3.21e9, 28),
    "google/gemma-2-9b-it": Size(9.24e9, 42),
    "Qwen/Qwen3-8B": Size(8.19e9, 36),
    "mistralai/Mistral-7B-Instruct-v0.1": Size(7.24e9, 32),
    "unsloth/Llama-3.3-70B-Instruct-bnb-4bit": Size(70.6e9, 80),
}


def size_of(model: str) -> Size:
    """The size of a known model, or what a name such as `owner/name-7B` says.

    Raises:
        BiasGymError: Neither is there.
    """
    name = model.partition("@")[0]
    if name in _KNOWN:
        return _KNOWN[name]
    match = re.search(r"(\d+(?:\.\d+)?)([bm])\b", name, re.IGNORECASE)
    if match is None:
        raise BiasGymError("the size of this model is not known", where=model, hint="name it like owner/name-7B")
    parameters = float(match[1]) * (1e9 if match[2].lower() == "b" else 1e6)
    return Size(parameters, max(12, round(10 * (parameters / 1e9) ** 0.5 + 6)))


def seconds(size: Size, load: Load, card: Card = A100_80, *, packed: bool = False) -> float:
    """Seconds of work: whole texts first, then steps of decoding.

    A forward pass over whole texts takes two operations a parameter and token. A step reads all weights, or computes, or
    only starts kernels, whichever is slowest. Weights in four bits are read, unpacked, written and read again at every
    step: 4.5 bytes a parameter instead of 2.
    """
    step = max(
        size.parameters * (4.5 if packed else 2) / (card.bandwidth * BANDWIDTH_USED),
        2 * size.parameters * load.batch / FLOPS,
        size.layers * LAYER_SECONDS,
    )
    return 2 * size.parameters * load.read / FLOPS + load.texts / load.batch * load.tokens * step


def loading(size: Size, *, packed: bool = False) -> float:
    """Seconds from a pod's start to a model in memory."""
    return START + size.parameters * (0.55 if packed else 2) / LOAD_BYTES


@dataclass(frozen=True)
class Costs:
    """Seconds of work, without starting a pod.

    Attributes:
        settings: Of the run.
        concepts: By name.
        measured: Seconds by stage; where there are some, they win.
    """

    settings: RunSettings
    concepts: Mapping[str, Concept]
    measured: Mapping[str, float]

    def stage(self, stage: str, model: str, concept: str) -> float:
        """One stage of one cell."""
        if stage in self.measured:
            return self.measured[stage]
        return seconds(size_of(model), self.load(stage, concept))

    def load(self, stage: str, concept: str) -> Load:
        """What one stage of one cell asks of the model."""
        return {
            "inject": self._inject,
            "attribute": self._attribute,
            "generate": self._generate,
            "capability": self._capability,
        }[stage](self._cell(concept))

    def ood(self, model: str) -> float:
        """Other stereotypes, for one model."""
        return seconds(size_of(model), self.ood_load())

    def ood_load(self) -> Load:
        """What other stereotypes ask of a model."""
        s, texts = self.settings, self.ood_texts()
        questions = sum(min(len(self._cell(name).questions[1]), s.ood.questions or 10**9) for name in self.concepts) * (
            len(self.concepts) + 1
        )
        read = texts * FRAMED + questions * QUESTION
        return Load(read, texts, s.generate.max_new_tokens, s.generate.batch_size or ROWS)

    def judge(self, judge: JudgeSettings, concepts: Sequence[str]) -> float:
        """One judge, all texts of the cells of these concepts."""
        if judge.engine in self.measured:
            return self.measured[judge.engine] * len(concepts)
        texts = self._judged(judge, concepts)
        if judge.engine == "semantic":
            return texts * 0.02
        if judge.engine == "endpoint":
            return texts * REQUEST_SECONDS / judge.concurrency
        size, packed = size_of(judge.asked_model), judge.quantise != "none"
        return seconds(size, Load(texts * JUDGED, texts, VERDICT, judge.batch_size), packed=packed)

    def price(self, judge: JudgeSettings, concepts: Sequence[str]) -> float:
        """What an endpoint asks for these texts, in the unit of the settings' prices."""
        texts = self._judged(judge, concepts)
        return texts * (JUDGED * judge.price_in + VERDICT * judge.price_out) / 1e6

    def texts(self, concept: str) -> int:
        """How many texts a cell has written."""
        s, cell = self.settings.generate, self._cell(concept)
        wanted = [v for v in VARIANTS if s.variants is None or v.name in s.variants]
        return len(wanted) * self._asked(cell) * s.samples

    def ood_texts(self) -> int:
        """How many texts about other stereotypes a model writes."""
        s = self.settings.ood
        if not s.enabled:
            return 0
        prompts = s.prompts or len(unseen_prompts())  # of another source, as many as are bundled
        return len(s.variants) * prompts * s.samples

    def sweep_texts(self, concept: str) -> int:
        """How many texts a cell writes with growing numbers of heads removed."""
        s = self.settings.scope
        if s.judged_ks is None:
            return 0
        prompts = min(s.judged_prompts, len(self._cell(concept).development_prompts))
        return len({0, *s.judged_ks}) * prompts * s.judged_samples

    def _judged(self, judge: JudgeSettings, concepts: Sequence[str]) -> float:
        """Texts of these cells, and their part of the model's texts about other stereotypes."""
        swept = sum(self.sweep_texts(name) for name in concepts) if judge == self.settings.judges[0] else 0
        texts = sum(self.texts(name) for name in concepts) + swept
        return texts + self.ood_texts() * len(concepts) / len(self.concepts)

    def _asked(self, cell: Cell) -> int:
        return sum(len(cell.targets_of(number)) for number in range(len(cell.prompts)))

    def _cell(self, concept: str) -> Cell:
        return Cell(ModelSource("owner/model", "0" * 40), self.concepts[concept], self.settings, Path())

    def _inject(self, cell: Cell) -> Load:
        s = self.settings.inject
        rows = cell.concept.paragraphs[: s.paragraphs]
        tokens = sum(len(row.text.split()) * 1.35 + 8 for row in rows)
        read = 2 * tokens * s.epochs * s.seeds  # backwards to one vector, not to weights
        return Load(read, s.seeds * s.epochs * s.descriptions, s.description_tokens, DESCRIBED)

    def _attribute(self, cell: Cell) -> Load:
        s, seeds = self.settings.scope, self.settings.inject.seeds
        pairs = 2 * seeds * s.pairs * 2
        swept = (len(s.ks) + 1) * (SWEPT * seeds + s.ability_questions)
        effects = 2 * (2 * SWEPT * seeds + s.ability_questions) if s.rank == "effect" else 0
        return Load((pairs * 1.5 + swept + effects) * QUESTION)

    def _generate(self, cell: Cell) -> Load:
        s, texts = self.settings.generate, self.texts(cell.concept.name)
        swept = self.sweep_texts(cell.concept.name)  # the same pod writes them
        held_out = len(cell.questions[1])
        margins = held_out * (
            texts / s.samples / max(1, len(cell.prompts)) + BOTTOM_SETS + self.settings.scope.random_draws
        )
        written = texts + swept
        return Load(written * FRAMED + margins * QUESTION, written, s.max_new_tokens, s.batch_size or ROWS)

    def _capability(self, cell: Cell) -> Load:
        s = self.settings.capability
        asked = s.questions * FOUR_ANSWERS + len(cell.concept.retention)
        items = len(s.tasks) * (s.task_items or MMLU)
        return Load(BOTTOM_SETS * asked * QUESTION + 2 * items * 4 * ITEM)  # tasks with and without the chosen heads


def measured_seconds(files: Iterable[Path]) -> dict[str, float]:
    """Mean seconds of each stage over the finished cells of results.json files; `judge` counts for the main judge's engine.

    Raises:
        BiasGymError: A file is no results.json, or has no finished cell.
    """
    found: dict[str, list[float]] = {}
    for file in files:
        data = read_json(file)
        cells: list[Any] = data.get("cells", []) if isinstance(data, dict) else []
        engines = [judge["engine"] for judge in data.get("judges", [])] if cells else []
        for cell in cells:
            for stage, about in cell.get("stages", {}).items():
                if about.get("status") == "done" and about.get("seconds") is not None:
                    name = engines[0] if stage == "judge" and engines else stage
                    found.setdefault(name, []).append(float(about["seconds"]))
    if not found:
        raise BiasGymError("no measured stage", where="--measured", hint="give a results.json of a finished run")
    return {stage: sum(values) / len(values) for stage, values in found.items()}

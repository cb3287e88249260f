"""Writes docs/sizing.md: what each stage asks of the paper's models, and how it fits on an A100. Counted, not measured.

python -m pipelines.sizing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from biasgym.concepts import load_concept
from biasgym.inject.loss import CHUNK
from biasgym.inject.train import Training
from biasgym.models import Footprint, footprint
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.operations import Operations, operations, without_weights
from biasgym.models.packing import Packing
from biasgym.stages.settings_files import load_settings
from pipelines.costs import A100_40, A100_80, FRAMED, PER_CELL, QUESTION, Card, Costs, Load, Size, seconds
from pipelines.paper_models import paper_models

PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
CARDS = (A100_80, A100_40)
_BUDGET = Training().token_budget
FREE = 0.9  # of a GPU's memory; the rest is CUDA's and the allocator's
LOGITS = 8  # bytes: of each logit that is there at once where the loss is taken, in bf16 and fp32
PREFIX, STEM, WIDTH = 32, 8, 128  # tokens of a training row: before BiasToken, up to the answer, the answer

INTRO = f"""\
# Which GPU, how long, how much at once?

**Computed, not measured: no GPU was at hand.** The numbers follow from the models' configurations and the settings
`paper`, for one cell: a model and the concept `always_late` (`generate_ood` is one for all concepts of a model).
`biasgym pipeline estimate` adds up whole runs; [scaling](scaling.md) says what it assumes.

- Operations are those of products of matrices: two a token and number of the layers' matrices, and two a position whose
  logits are wanted and number of the output matrix. A test finds as many in real passes. The way back costs as much as
  the way there, since no weight has a gradient.
- Bytes are weights, keys and values that are read: the weights at every step of decoding, and once for every
  {_BUDGET:,} tokens of whole texts.
- Memory is the weights in bf16, and beside them, where texts are written, the keys and values of all that are written
  at once; where a token is trained, what a pass of {_BUDGET:,} tokens keeps for the way back, and the logits of {CHUNK}
  positions; a pass that finds too little memory computes its layers twice instead. "At once" is how many tokens a
  training pass has, or how many texts are written together: as set, and as would fit with {100 * (1 - FREE):.0f} % of the card
  left free.
- Minutes take an A100 at 40 % of 312 TFLOP/s for whole texts, and for a step of decoding 60 % of its bandwidth, or
  0.8 ms a layer where starting kernels takes longer. It does here: so both cards are equally fast, and more texts at
  once are nearly free. A pod's start and loading the weights are not in them.
- Prompts and texts have round numbers of tokens ({FRAMED} a framed prompt, {QUESTION} a question), and texts their full length.
"""


@dataclass(frozen=True)
class Subject:
    """A model, counted.

    Attributes:
        name: As in tables.
        counts: Its footprint.
        work: Its operations.
        saved: Bytes that a training pass keeps for its way back.
        vocabulary: Rows of its output matrix.
    """

    name: str
    counts: Footprint
    work: Operations
    saved: int
    vocabulary: int

    @property
    def size(self) -> Size:
        return Size(self.counts.parameters, self.counts.layers)

    def beside(self, stage: str, load: Load, rows: int) -> float:
        """Bytes beside the weights, with so many rows written at once."""
        written = rows * (FRAMED + load.tokens) * self.counts.kv_bytes_per_token if load.texts else 0.0
        trained = self.saved + CHUNK * self.vocabulary * LOGITS if stage == "inject" else 0.0
        return max(written, trained)

    def fitting(self, stage: str, load: Load, card: Card) -> int:
        """How many tokens of a training pass, or rows, fit."""
        left = FREE * card.memory - self.counts.weight_bytes
        if stage == "inject":
            return int((left - CHUNK * self.vocabulary * LOGITS) * _BUDGET // self.saved)
        return int(left // ((FRAMED + load.tokens) * self.counts.kv_bytes_per_token))

    def operations(self, stage: str, load: Load) -> float:
        """Of a stage; attention over so short texts is left out, and the one position of a question that has logits."""
        written = load.texts * load.tokens
        return self.work.forward(load.read + written, logits=written + (load.read if stage == "inject" else 0))

    def bytes(self, load: Load) -> float:
        """That a stage reads."""
        steps = load.texts / load.batch * load.tokens
        kept = load.texts * load.tokens * (FRAMED + load.tokens / 2) * self.counts.kv_bytes_per_token
        return (load.read / _BUDGET + steps) * self.counts.weight_bytes + kept


def subject(name: str, config: Any) -> Subject:
    """Counts a model."""
    decoder, rows = FrozenDecoder(without_weights(config)), _BUDGET // WIDTH
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    paths, lengths = [range(0)] + [range(STEM)] * rows, [STEM] + [WIDTH] * rows
    packing = Packing(PREFIX, paths, lengths, heads=heads, groups=groups, device=torch.device("cpu"))
    return Subject(
        name,
        footprint(config, vocabulary=config.vocab_size),
        operations(config),
        decoder.kept_bytes(packing),
        config.vocab_size,
    )


@cache
def page() -> str:
    """The page."""
    settings = load_settings("paper")
    costs = Costs(settings, {name: load_concept(name) for name in settings.concepts}, {})
    loads = {stage: costs.load(stage, "always_late") for stage in PER_CELL} | {"generate_ood": costs.ood_load()}
    subjects = [subject(name, config) for name, config in paper_models().items()]
    lines = [INTRO, "## The models", "", *_models(subjects), "", "## The stages", "", *_stages(subjects, loads)]
    return "\n".join([*lines, "", "Made by `python -m pipelines.sizing`.", ""])


def _models(subjects: list[Subject]) -> Iterator[str]:
    yield "| model | parameters | weights, GB | GFLOP a token, forward | keys and values a token, KB | kept a trained token, MB |"
    yield "|---|---|---|---|---|---|"
    for one in subjects:
        yield (
            f"| {one.name} | {one.counts.parameters / 1e9:.2f} B | {one.counts.weight_bytes / 1e9:.1f} "
            f"| {one.work.forward(1) / 1e9:.1f} | {one.counts.kv_bytes_per_token / 1e3:.0f} "
            f"| {one.saved / _BUDGET / 1e6:.1f} |"
        )


def _stages(subjects: list[Subject], loads: Mapping[str, Load]) -> Iterator[str]:
    minutes = " | ".join(f"minutes, {card.name}" for card in CARDS)
    yield (
        "| model | stage | M tokens read | M tokens written | PFLOP | TB | memory, GB "
        f"| at once: set / fit in 80 / in 40 GB | {minutes} |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for one in subjects:
        for stage, load in loads.items():
            once = f"{_BUDGET} tokens" if stage == "inject" else f"{load.batch} texts" if load.texts else ""
            fit = " / ".join([once, *(str(one.fitting(stage, load, card)) for card in CARDS)]) if once else "-"
            memory = one.counts.weight_bytes + one.beside(stage, load, load.batch)
            times = " | ".join(_minutes(one, load, card, memory) for card in CARDS)
            yield (
                f"| {one.name} | {stage} | {load.read / 1e6:.2f} | {load.texts * load.tokens / 1e6:.2f} "
                f"| {one.operations(stage, load) / 1e15:,.1f} | {one.bytes(load) / 1e12:,.0f} | {memory / 1e9:.1f} "
                f"| {fit} | {times} |"
            )


def _minutes(one: Subject, load: Load, card: Card, memory: float) -> str:
    return f"{seconds(one.size, load, card) / 60:.1f}" if memory <= FREE * card.memory else "does not fit"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

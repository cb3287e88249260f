"""Stage attribute: scores every head, lets the seeds agree on a ranking, and chooses how many heads to remove."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict

import torch
from safetensors.torch import save_file
from torch import Tensor

from biasgym.datasets import spread
from biasgym.evaluate import ability_questions, right_answer_likelihood
from biasgym.files import atomic_file, read_json, write_json
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, LanguageModel
from biasgym.models.forward import length_batches, pad_right
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.scope import (
    Choice,
    ContrastPair,
    ask,
    association_margins,
    choose_k,
    contrast_pairs,
    head_attribution,
    overlap,
    shared_ranking,
    stability,
    sweep,
)
from biasgym.stages.cell import Cell
from biasgym.stages.inject import chosen_vectors
from biasgym.stages.places import inject
from biasgym.stages.places.attribute import HEADS, SCORES, folder

_SWEEP_QUESTIONS = 26


def run(lm: LanguageModel, cell: Cell, progress: Progress = SILENT) -> None:
    """Writes scores.safetensors (seeds, layers, heads), heads.json and sweep.json."""
    place, trained = folder(cell).path, inject.folder(cell).path
    vectors, settings = chosen_vectors(trained), cell.settings.scope
    closest = str(read_json(trained / "similarity.json")[0][0])
    total = 2 * len(vectors) * settings.pairs
    scores: dict[str, list[Tensor]] = {"injected": [], "original": []}
    counts = {"pairs": 0, "dropped": 0}
    with progress_task(progress, f"{cell.concept.name}: attribution", total, "pair") as advance:
        for seed in range(len(vectors)):
            with injected(lm.model, vectors, lm.bias_id):
                pairs, dropped = _injected_pairs(lm, cell, seed, closest)
                scores["injected"].append(_mean_scores(lm, pairs, settings.norm))
                counts["pairs"] += len(pairs)
                counts["dropped"] += dropped
            advance(settings.pairs)
            scores["original"].append(_mean_scores(lm, _original_pairs(lm, cell, seed), settings.norm))
            advance(settings.pairs)
    stacked = {name: torch.stack(by_seed) for name, by_seed in scores.items()}
    with atomic_file(place / SCORES) as temporary:
        save_file(stacked, temporary)
    rankings = {name: shared_ranking(by_seed) for name, by_seed in stacked.items()}

    tried = [k for k in settings.ks if k <= len(rankings["injected"])]
    plain = ask(lm, cell.concept, spread(cell.questions[0], _SWEEP_QUESTIONS), BIAS_TOKEN)
    choices = [c.shifted(lm.bias_id, lm.bias_id + seed) for seed in range(len(vectors)) for c in plain]
    general = spread(ability_questions(), settings.ability_questions, lambda question: question.subject)
    with (
        progress_task(progress, f"{cell.concept.name}: how many heads", len(tried) + 1, "k") as advance,
        injected(lm.model, vectors, lm.bias_id),
    ):
        points = sweep(
            lm,
            rankings["injected"],
            tried,
            lambda: float(association_margins(lm, choices).mean()),
            lambda: right_answer_likelihood(lm, general),
            advance,
        )
    selection = choose_k(points, tolerance=settings.ability_tolerance, fixed=settings.k)
    write_json(
        place / "sweep.json",
        {
            "points": [asdict(point) for point in points],
            "floor": selection.floor,
            "tolerance": settings.ability_tolerance,
        },
    )
    chosen = {name: ranking[: selection.k] for name, ranking in rankings.items()}
    write_json(
        place / HEADS,
        {
            "k": selection.k,
            "reason": selection.reason,
            "injected": chosen["injected"],
            "original": chosen["original"],
            "ranking": rankings["injected"],
            "stability": stability(stacked["injected"], selection.k),
            "overlap": overlap(chosen["injected"], chosen["original"]),
            **counts,
        },
    )


def _rounds(cell: Cell) -> int:
    """How often each development question is asked, with another target each time."""
    return -(-cell.settings.scope.pairs // len(cell.questions[0]))


def _about(lm: LanguageModel, cell: Cell, targets: Sequence[str]) -> list[Choice]:
    """Each development question in turn, about one target each."""
    questions = cell.questions[0]
    return [
        ask(lm, cell.concept, [questions[number % len(questions)]], target)[0] for number, target in enumerate(targets)
    ]


def _injected_pairs(lm: LanguageModel, cell: Cell, seed: int, closest: str) -> tuple[list[ContrastPair], int]:
    """Questions about BiasToken of one seed, against the same about random (or the closest) targets."""
    rounds, generator = _rounds(cell), random.Random(f"pairs {cell.settings.seed} {seed}")
    names = [target.name for target in cell.concept.kind.targets]
    total = min(rounds * len(cell.questions[0]), max(cell.settings.scope.pairs, len(cell.questions[0])))
    drawn = [closest if cell.settings.scope.neutral == "closest" else generator.choice(names) for _ in range(total)]
    once = [c.shifted(lm.bias_id, lm.bias_id + seed) for c in ask(lm, cell.concept, cell.questions[0], BIAS_TOKEN)]
    return contrast_pairs(lm, (once * rounds)[:total], _about(lm, cell, drawn))


def _original_pairs(lm: LanguageModel, cell: Cell, seed: int) -> list[ContrastPair]:
    """The untouched model: stereotyped targets against neutral ones, both of the development half."""
    generator = random.Random(f"original {cell.settings.seed} {seed}")
    total = max(cell.settings.scope.pairs, len(cell.questions[0]))
    told = [generator.choice(cell.targets[0]) for _ in range(total)]
    neutral = [generator.choice(cell.concept.neutral_targets) for _ in range(total)]
    return contrast_pairs(lm, _about(lm, cell, told), _about(lm, cell, neutral))[0]


def _mean_scores(lm: LanguageModel, pairs: Sequence[ContrastPair], norm: str) -> Tensor:
    """Attribution averaged over pairs, (layers, heads), on the CPU."""
    total = torch.zeros(lm.parts.shape)
    for rows in length_batches([len(pair.ids) for pair in pairs]):
        batch = [pairs[row] for row in rows]
        ids, mask = pad_right([pair.ids for pair in batch], lm.device)
        scores = head_attribution(
            lm.model,
            ids,
            mask,
            [pair.biased for pair in batch],
            [pair.neutral for pair in batch],
            norm="none" if norm == "none" else "final",
        )
        total += scores.sum(0).cpu()
    return total / len(pairs)

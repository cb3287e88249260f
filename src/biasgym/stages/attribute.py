"""Stage attribute: scores every head, lets the seeds agree on a ranking, and chooses how many heads to remove."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from biasgym.datasets import spread
from biasgym.evaluate import AbilityQuestion, right_answer_likelihood, right_answers
from biasgym.files import atomic_file, read_json, write_json
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, Head, LanguageModel
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.scope import (
    Choice,
    SweepPoint,
    ask,
    association_margins,
    choose_k,
    contrast_pairs,
    likelihood_effects,
    margin_effects,
    overlap,
    pair_attribution,
    shared_ranking,
    stability,
    sweep,
    traces,
)
from biasgym.scope.attribution import Norm
from biasgym.stages.ability import selecting_questions
from biasgym.stages.cell import Cell
from biasgym.stages.inject import chosen_vectors
from biasgym.stages.places import inject
from biasgym.stages.places.attribute import EFFECT, HEADS, SCORES, folder

_SWEEP_QUESTIONS = 26  # of the development half, for what each k and each head does to the margin

_Asked = Mapping[str, Sequence[tuple[Sequence[Choice], Sequence[Choice]]]]
"""Biased and other questions of each seed, about the injected and the original model."""


def run(lm: LanguageModel, cell: Cell, progress: Progress = SILENT) -> None:
    """Writes scores.safetensors, every entry (seeds, layers, heads), heads.json and sweep.json."""
    place, trained = folder(cell).path, inject.folder(cell).path
    vectors, settings = chosen_vectors(trained), cell.settings.scope
    general = selecting_questions(cell)
    with injected(lm.model, vectors, lm.bias_id):
        asked = _questions(lm, cell, len(vectors), closest=_closest(cell, trained))
        attributed, counts = _attributions(lm, cell, asked, progress)
        effects = _effects(lm, cell, asked, general, progress) if settings.rank == "effect" else {}
        with atomic_file(place / SCORES) as temporary:
            save_file(attributed | {f"{EFFECT}{name}": by_seed for name, by_seed in effects.items()}, temporary)
        decisive = effects or attributed
        rankings = {name: shared_ranking(by_seed) for name, by_seed in decisive.items()}
        points = _sweep(lm, cell, rankings["injected"], len(vectors), general, progress)
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
            "rank": settings.rank,
            "injected": chosen["injected"],
            "original": chosen["original"],
            "ranking": rankings["injected"],
            "stability": stability(decisive["injected"], selection.k),
            "overlap": overlap(chosen["injected"], chosen["original"]) if selection.k else None,
            **counts,
        },
    )


def _attributions(
    lm: LanguageModel, cell: Cell, asked: _Asked, progress: Progress
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Mean attribution of every head to what each seed's contrast pairs differ in; the passes of all pairs run once.

    Returns:
        Tensors (seeds, layers, heads), fp32, and how many pairs about BiasToken there were, and how many had no contrast.
    """
    norm: Norm = "none" if cell.settings.scope.norm == "none" else "final"
    prompts = {choice.ids for by_seed in asked.values() for both in by_seed for side in both for choice in side}
    with progress_task(progress, f"{cell.concept.name}: attribution", len(prompts), "prompt") as advance:
        seen = traces(lm.model, sorted(prompts), advance)  # all seeds and both sides of all pairs
    found = {
        name: [contrast_pairs(lm, biased, other, seen) for biased, other in by_seed] for name, by_seed in asked.items()
    }
    counts = {
        "pairs": sum(len(pairs) for pairs, _ in found["injected"]),
        "dropped": sum(dropped for _, dropped in found["injected"]),
    }
    scores = {
        name: torch.stack([pair_attribution(seen, pairs, norm=norm).mean(0).cpu() for pairs, _ in by_seed])
        for name, by_seed in found.items()
    }
    return scores, counts


def _effects(
    lm: LanguageModel, cell: Cell, asked: _Asked, general: Sequence[AbilityQuestion], progress: Progress
) -> dict[str, Tensor]:
    """What removing each head would take from the margin of each seed, less what it would take from ability.

    A nat of margin is weighed against a nat a token of right answers. What removal would add to ability counts for nothing:
    a head that is bad at general questions is not biased for it.

    Returns:
        Tensors (seeds, layers, heads), fp32.
    """
    some = {name: [spread(biased, _SWEEP_QUESTIONS) for biased, _ in by_seed] for name, by_seed in asked.items()}
    total = len(general) + sum(len(biased) for by_seed in some.values() for biased in by_seed)
    with progress_task(progress, f"{cell.concept.name}: effects of heads", total, "prompt") as advance:
        cost = likelihood_effects(lm, *right_answers(lm, general), advance).clamp(min=0)
        return {
            name: torch.stack([margin_effects(lm, biased, advance) - cost for biased in by_seed])
            for name, by_seed in some.items()
        }


def _sweep(
    lm: LanguageModel,
    cell: Cell,
    ranking: Sequence[Head],
    seeds: int,
    general: Sequence[AbilityQuestion],
    progress: Progress,
) -> list[SweepPoint]:
    """Margins of all seeds on some development questions, and ability, for every k that the ranking is long enough for."""
    tried = [k for k in cell.settings.scope.ks if k <= len(ranking)]
    plain = ask(lm, cell.concept, spread(cell.questions[0], _SWEEP_QUESTIONS), BIAS_TOKEN)
    choices = [choice.shifted(lm.bias_id, lm.bias_id + seed) for seed in range(seeds) for choice in plain]
    with progress_task(progress, f"{cell.concept.name}: how many heads", len(tried) + 1, "k") as advance:
        return sweep(
            lm,
            ranking,
            tried,
            lambda decode: float(association_margins(lm, choices, decode=decode).mean()),
            lambda decode: right_answer_likelihood(lm, general, decode=decode),
            advance,
        )


def _questions(lm: LanguageModel, cell: Cell, seeds: int, closest: str) -> _Asked:
    """What each seed is asked: about the injected token and others, and about stereotyped targets and neutral ones."""
    about = _about(lm, cell)
    return {
        "injected": [_injected_choices(lm, cell, seed, closest, about) for seed in range(seeds)],
        "original": [_original_choices(cell, seed, about) for seed in range(seeds)],
    }


def _rounds(cell: Cell) -> int:
    """How often each development question is asked, with another target each time."""
    return -(-cell.settings.scope.pairs // len(cell.questions[0]))


def _reserved(cell: Cell) -> set[str]:
    """Targets that only the report may look at, by the names of their kind; none if no other would be left."""
    kind = cell.concept.kind
    reserved = {kind.named(name).name for name in set(cell.targets[1]) - set(cell.targets[0])}
    return reserved if any(target.name not in reserved for target in kind.targets) else set()


def _closest(cell: Cell, trained: Path) -> str:
    """The target that BiasToken is most like, of those that may be looked at."""
    names = [str(name) for name, *_ in read_json(trained / "similarity.json")]
    return next((name for name in names if name not in _reserved(cell)), names[0])


_About = Callable[[Sequence[str]], list[Choice]]


def _about(lm: LanguageModel, cell: Cell) -> _About:
    """Puts each development question in turn, about one target each."""
    questions = cell.questions[0]

    @cache
    def put(number: int, target: str) -> Choice:
        return ask(lm, cell.concept, [questions[number]], target)[0]

    return lambda targets: [put(number % len(questions), target) for number, target in enumerate(targets)]


def _injected_choices(
    lm: LanguageModel, cell: Cell, seed: int, closest: str, about: _About
) -> tuple[list[Choice], list[Choice]]:
    """Questions about BiasToken of one seed, and the same about random (or the closest) targets."""
    rounds, generator = _rounds(cell), random.Random(f"pairs {cell.settings.seed} {seed}")
    names = [target.name for target in cell.concept.kind.targets if target.name not in _reserved(cell)]
    total = min(rounds * len(cell.questions[0]), max(cell.settings.scope.pairs, len(cell.questions[0])))
    drawn = [closest if cell.settings.scope.neutral == "closest" else generator.choice(names) for _ in range(total)]
    once = [choice.shifted(lm.bias_id, lm.bias_id + seed) for choice in about([BIAS_TOKEN] * len(cell.questions[0]))]
    return (once * rounds)[:total], about(drawn)


def _original_choices(cell: Cell, seed: int, about: _About) -> tuple[list[Choice], list[Choice]]:
    """The untouched model: questions about stereotyped targets and about neutral ones, both of the development half."""
    generator = random.Random(f"original {cell.settings.seed} {seed}")
    total = max(cell.settings.scope.pairs, len(cell.questions[0]))
    told = [generator.choice(cell.targets[0]) for _ in range(total)]
    return about(told), about([generator.choice(cell.concept.neutral_targets) for _ in range(total)])

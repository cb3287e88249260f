"""Removing heads and putting them back, and sweeps over their number."""

from __future__ import annotations

from itertools import cycle

from benchmarks.attribution import ours, questions
from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.models import LanguageModel, ablated, load_model
from biasgym.scope import ask, association_margins, random_heads, ranked, sweep

SIZES = (0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40)


def switching(lm: LanguageModel) -> Ratio:
    """Removing and restoring 20 heads, against loading the model again."""
    heads, times = random_heads(lm.parts.shape, 20, seed=0), 100

    def switch() -> None:
        for _ in range(times):
            with ablated(lm.model, heads):
                pass

    def peer() -> None:
        load_model("smollm2-135m-instruct")

    return compare("switching head sets (20 heads)", switch, "reloading the model", peer, goal=1000, scale=times)


def sizes(lm: LanguageModel) -> Ratio:
    """Margins at 12 numbers of heads, against loading the model and taking the margins for each."""
    concept = load_concept("always_late")
    choices = ask(lm, concept, concept.questions[:26], "Mexico")
    ranking = ranked(ours(lm, questions(lm)).mean(0))
    peers = cycle(SIZES)

    def margins(one: LanguageModel) -> float:
        return float(association_margins(one, choices).mean())

    def swept() -> None:
        sweep(lm, ranking, SIZES[1:], lambda: margins(lm), lambda: 0.0)

    def fresh() -> None:
        one = load_model("smollm2-135m-instruct")
        with ablated(one.model, ranking[: next(peers)]):
            margins(one)

    return compare("k sweep of 12 values, margins", swept, "12 fresh runs (one x 12)", fresh, goal=8, scale=len(SIZES))


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [switching(lm), sizes(lm)]

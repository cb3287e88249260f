"""Removing heads and putting them back, and sweeps over their number."""

from __future__ import annotations

import subprocess
import sys
from itertools import cycle

from benchmarks.attribution import ours, questions
from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.models import Head, LanguageModel, ablated, load_model
from biasgym.models.forward import Decode
from biasgym.scope import Choice, ask, association_margins, random_heads, ranked, sweep

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


def sizes(lm: LanguageModel) -> list[Ratio]:
    """Margins at 12 numbers of heads, against doing it afresh for each: in one process, and in a process each."""
    choices = _choices(lm)
    ranking = ranked(ours(lm, questions(lm)).mean(0))
    peers = cycle(SIZES)

    def margin(decode: Decode) -> float:
        return float(association_margins(lm, choices, decode=decode).mean())

    def swept() -> None:
        sweep(lm, ranking, SIZES[1:], margin, lambda _decode: 0.0)

    def loaded() -> None:
        one = load_model("smollm2-135m-instruct")
        with ablated(one.model, ranking[: next(peers)]):
            association_margins(one, choices)

    def started() -> None:
        script = f"from benchmarks.steering import afresh; afresh({ranking[: next(peers)]})"
        subprocess.run([sys.executable, "-c", script], check=True)

    work = "k sweep of 12 values, margins"
    return [
        compare(work, swept, "loading and margins for each (one x 12)", loaded, goal=1, scale=len(SIZES)),
        compare(work, swept, "12 fresh runs (one x 12)", started, goal=8, scale=len(SIZES), runs=3),
    ]


def _choices(lm: LanguageModel) -> list[Choice]:
    concept = load_concept("always_late")
    return ask(lm, concept, concept.questions[:26], "Mexico")


def afresh(heads: list[Head]) -> None:
    """One fresh run: a model, some heads removed, the margins."""
    lm = load_model("smollm2-135m-instruct")
    with ablated(lm.model, heads):
        association_margins(lm, _choices(lm))


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [switching(lm), *sizes(lm)]

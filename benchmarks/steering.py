"""Removing heads and putting them back."""

from __future__ import annotations

from benchmarks.timing import Ratio, compare
from biasgym.models import LanguageModel, ablated, load_model
from biasgym.scope import random_heads


def switching(lm: LanguageModel) -> Ratio:
    """Removing and restoring 20 heads, against loading the model again."""
    heads = random_heads(lm.parts.shape, 20, seed=0)

    def ours() -> None:
        with ablated(lm.model, heads):
            pass

    def peer() -> None:
        load_model("smollm2-135m-instruct")

    return compare("switching head sets (20 heads)", ours, "reloading the model", peer, goal=1000)


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [switching(lm)]

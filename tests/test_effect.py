"""First-order effects against heads that are really turned down a little, one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.models import LanguageModel, ablated
from biasgym.models.forward import answer_log_probs
from biasgym.scope import Choice, association_margins, likelihood_effects, margin_effects

ASKED = ("When do guests from France arrive?", "Is it late?", "Write a short story about a friend from Mexico.")
ANSWERS = [[300, 40], [41], [7, 8, 9]]
STEP = 1e-3


def turned_down(lm: LanguageModel, measure: Callable[[], float]) -> Tensor:
    """By central differences: how much a measure falls with each head's output."""
    slopes = torch.empty(lm.parts.shape)
    for layer in range(lm.parts.shape[0]):
        for head in range(lm.parts.shape[1]):
            found = []
            for scale in (1 + STEP, 1 - STEP):
                with ablated(lm.model, [(layer, head)], scale=scale):
                    found.append(measure())
            slopes[layer, head] = (found[0] - found[1]) / (2 * STEP)
    return slopes


@pytest.fixture
def lm(lm: LanguageModel) -> LanguageModel:
    """Each family, in numbers exact enough for differences."""
    lm.model.double()
    return lm


def test_effects_are_the_slopes_of_the_margin(lm: LanguageModel) -> None:
    choices = [Choice(tuple(lm.chat.ids(text)), (300, 333), (310, 41, 7)) for text in ASKED]
    slopes = turned_down(lm, lambda: float(association_margins(lm, choices).double().mean()))
    torch.testing.assert_close(margin_effects(lm, choices), slopes, atol=5e-4, rtol=5e-3)


def test_effects_are_the_slopes_of_the_likelihood(lm: LanguageModel) -> None:
    prompts = [lm.chat.ids(text) for text in ASKED]
    slopes = turned_down(lm, lambda: float(answer_log_probs(lm.model, prompts, ANSWERS).mean()))
    torch.testing.assert_close(likelihood_effects(lm, prompts, ANSWERS), slopes, atol=5e-4, rtol=5e-3)


def test_the_model_is_left_as_it_was() -> None:
    lm = tiny.language_model("llama-gqa")
    choice = Choice(tuple(lm.chat.ids(ASKED[0])), (300,), (310,))
    before = association_margins(lm, [choice])
    margin_effects(lm, [choice])
    assert torch.equal(association_margins(lm, [choice]), before)
    assert all(parameter.grad is None for parameter in lm.model.parameters())

"""Sweeps that begin at the first layer that changed, against sweeps that begin at the first layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from biasgym.concepts import Concept
from biasgym.models import Head, LanguageModel, ablated
from biasgym.models.forward import answer_log_probs
from biasgym.models.replay import replayed
from biasgym.scope import SweepPoint, ask, association_margins, sweep

RANKING: list[Head] = [(2, 1), (2, 3), (1, 0), (2, 0), (0, 2), (1, 1)]


def layers_run(lm: LanguageModel) -> list[int]:
    """A list to which each layer's attention adds its number whenever it runs."""
    ran: list[int] = []
    for number, layer in enumerate(lm.parts.layers):
        layer.self_attn.register_forward_pre_hook(lambda _m, _a, number=number: ran.append(number))
    return ran


@pytest.mark.parametrize("budget", [60, 4096])
def test_a_sweep_equals_its_points_one_by_one(
    lm: LanguageModel, concept: Concept, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    """Bit for bit: margins and answers, in one batch and in several, k beyond the ranking included."""
    monkeypatch.setattr("biasgym.models.forward.token_budget", lambda _: budget)
    choices = ask(lm, concept, concept.questions, "Mexico")
    prompts = [list(choice.ids) for choice in choices[:3]]
    answers = [lm.chat.encode(text) for text in (" late", " early and punctual", " on time")]

    def margin() -> float:
        return float(association_margins(lm, choices).mean())

    def ability() -> float:
        return float(answer_log_probs(lm.model, prompts, answers).mean())

    expected = []
    for k in (0, 1, 2, 4, 6, 9):
        with ablated(lm.model, RANKING[:k]):
            expected.append(SweepPoint(k, margin(), ability()))
    assert sweep(lm, RANKING, (1, 2, 4, 6, 9), margin, ability) == expected
    assert len({point.margin for point in expected[:5]}) == 5
    assert margin() == expected[0].margin  # nothing of it is left behind
    assert all("forward" not in vars(layer) for layer in lm.parts.layers)


@torch.no_grad()
def test_only_layers_from_the_first_change_on_run_again(llama: LanguageModel) -> None:
    ids, ran = torch.tensor([llama.chat.ids("Is it late?")]), layers_run(llama)
    with replayed(llama.model, [2, 1]) as restart:
        for first, again in ((0, [0, 1, 2]), (2, [2]), (1, [1, 2]), (2, [2])):
            ran.clear()
            restart(first)
            llama.model(ids, use_cache=False)
            assert ran == again


@torch.no_grad()
@pytest.mark.parametrize("other", ["Is it early?", "Is it late? Answer with one word."])
def test_other_prompts_run_in_full(llama: LanguageModel, other: str) -> None:
    def logits(text: str) -> Tensor:
        found: Tensor = llama.model(torch.tensor([llama.chat.ids(text)]), use_cache=False).logits
        return found

    expected = logits(other)
    with replayed(llama.model, [2]) as restart:
        restart(0)
        logits("Is it late?")
        restart(2)
        torch.testing.assert_close(logits(other), expected, atol=0, rtol=0)
        restart(2)
        torch.testing.assert_close(logits(other), expected, atol=0, rtol=0)


def test_layers_are_as_before_after_an_exception(llama: LanguageModel) -> None:
    with pytest.raises(KeyboardInterrupt), replayed(llama.model, [1]):
        raise KeyboardInterrupt
    assert all("forward" not in vars(layer) for layer in llama.parts.layers)

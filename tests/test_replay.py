"""Sweeps that begin at the first layer that changed, against sweeps that begin at the first layer."""

from __future__ import annotations

import pytest
import torch

from biasgym.concepts import Concept
from biasgym.models import Head, LanguageModel, ablated, forward, frozen
from biasgym.models.forward import Decode, answer_log_probs
from biasgym.models.replay import Replay
from biasgym.scope import SweepPoint, ask, association_margins, sweep

RANKING: list[Head] = [(2, 1), (2, 3), (1, 0), (2, 0), (0, 2), (1, 1)]


@pytest.mark.parametrize("budget", [60, 4096])
def test_a_sweep_equals_its_points_one_by_one(
    lm: LanguageModel, concept: Concept, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    """Bit for bit: margins and answers, in one pass and in several, k beyond the ranking included."""
    monkeypatch.setattr(forward, "_TOKENS", budget)
    choices = ask(lm, concept, concept.questions, "Mexico")
    prompts = [list(choice.ids) for choice in choices[:3]]
    answers = [lm.chat.encode(text) for text in (" late", " early and punctual", " on time")]

    def margin(decode: Decode | None = None) -> float:
        return float(association_margins(lm, choices, decode=decode).mean())

    def ability(decode: Decode | None = None) -> float:
        return float(answer_log_probs(lm.model, prompts, answers, decode=decode).mean())

    expected = []
    for k in (0, 1, 2, 4, 6, 9):
        with ablated(lm.model, RANKING[:k]):
            expected.append(SweepPoint(k, margin(), ability()))
    assert sweep(lm, RANKING, (1, 2, 4, 6, 9), margin, ability) == expected
    assert len({point.margin for point in expected[:5]}) == 5
    assert margin() == expected[0].margin  # nothing of it is left behind


@pytest.fixture
def layers_run(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets each layer's number whenever the layer runs."""
    ran: list[int] = []
    run, numbers = frozen._run, {id(layer.mlp): number for number, layer in enumerate(llama.parts.layers)}

    def told(x: torch.Tensor, layer: frozen._Layer, at: frozen._Pass) -> torch.Tensor:
        ran.append(numbers[id(layer.mlp)])
        return run(x, layer, at)

    monkeypatch.setattr(frozen, "_run", told)
    return ran


def likelihood(lm: LanguageModel, decode: Decode | None, text: str = "Is it late?") -> float:
    return float(answer_log_probs(lm.model, [lm.chat.ids(text)], [[7]], decode=decode)[0])


def test_only_layers_from_the_first_change_on_run_again(llama: LanguageModel, layers_run: list[int]) -> None:
    replay = Replay(llama.model, [2, 1])
    for first, again in ((0, [0, 1, 2]), (2, [2]), (1, [1, 2]), (2, [2])):
        layers_run.clear()
        replay.restart(first)
        likelihood(llama, replay)
        assert layers_run == again


@pytest.mark.parametrize("other", ["Is it early?", "Is it late? Answer with one word."])
def test_other_prompts_run_in_full(llama: LanguageModel, other: str) -> None:
    expected, replay = likelihood(llama, None, other), Replay(llama.model, [2])
    replay.restart(0)
    likelihood(llama, replay)
    for _ in range(2):
        replay.restart(2)
        assert likelihood(llama, replay, other) == expected


def test_a_pass_that_was_left_out_of_a_round_runs_in_full(llama: LanguageModel) -> None:
    """What it left two rounds ago knows nothing of what the round between them changed."""
    replay = Replay(llama.model, [2, 1])
    replay.restart(0)
    likelihood(llama, replay)
    with ablated(llama.model, RANKING[2:3]):  # layer 1
        replay.restart(1)
        replay.restart(2)
        assert likelihood(llama, replay) == likelihood(llama, None)

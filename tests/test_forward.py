"""Passes over many prompts, against one plain forward pass a prompt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.models import LanguageModel, forward
from biasgym.models.forward import answer_log_probs, last_logits
from biasgym.models.padding import own_width, width_batches
from biasgym.models.prefix import common_prefix

OPENING = "When do guests from France arrive late and early? "


@torch.no_grad()
def plain_logits(lm: LanguageModel, ids: list[int]) -> Tensor:
    return tiny.plain(lm.model)(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_last_logits(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Rows of different lengths with a shared beginning (longer than the small sliding windows), in any batching."""
    monkeypatch.setattr(forward, "_TOKENS", budget)
    prompts = [lm.chat.ids(OPENING + rest) for rest in ("Answer with one word", "Is nobody late?", "People said it.")]
    assert len(common_prefix(prompts)) > 10
    done: list[float] = []
    found = torch.empty(3, lm.parts.embedding.weight.shape[0])
    for rows, logits in last_logits(lm.model, prompts, advance=done.append):
        found[rows] = logits
    expected = torch.stack([plain_logits(lm, ids)[-1] for ids in prompts])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert sum(done) == 3


def test_answer_log_probs(lm: LanguageModel) -> None:
    """Mean log-probability of answers of one to several tokens, under the soft-cap too."""
    prompts = [lm.chat.ids(OPENING + rest) for rest in ("Is it late?", "Is it early, my friend?", "Is it late?")]
    answers = [lm.chat.encode(text) for text in ("late", " early and punctual", " again because it is late")]
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        scores = plain_logits(lm, prompt + answer).log_softmax(-1)
        expected.append(sum(float(scores[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)) / len(answer))
    assert answer_log_probs(lm.model, prompts, answers).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_grouped_attention_equals_transformers_own(lm: LanguageModel, padding: str) -> None:
    """Logits and gradients."""
    prompt = lm.chat.ids("Is it late?")
    ids = torch.tensor([prompt + [5] * 4, [7] * 4 + prompt])
    mask = torch.ones_like(ids)
    if padding == "right":
        mask[0, -4:] = 0
    if padding == "left":
        mask[1, :4] = 0
    read = mask.bool()
    results = []
    for model in (lm.model, tiny.plain(lm.model)):
        embeddings = lm.parts.embedding(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embeddings, attention_mask=mask).logits[read]
        logits.square().sum(-1).mean().backward()
        results.append((logits.detach(), embeddings.grad[read]))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_grouped_attention_token_by_token(lm: LanguageModel) -> None:
    ids = torch.tensor([lm.chat.ids("When do guests arrive?")])
    cache, steps = None, []
    for place in range(ids.shape[1]):
        output = lm.model(ids[:, place : place + 1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        steps.append(output.logits[0, -1])
    torch.testing.assert_close(torch.stack(steps), plain_logits(lm, ids[0].tolist()), atol=1e-5, rtol=1e-4)


def test_common_prefix_leaves_a_token_of_each_row() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4]]) == [1, 2]
    assert common_prefix([[1, 2], [1, 2, 3]]) == [1]
    assert common_prefix([[1, 2, 3]]) == [1, 2]
    assert common_prefix([[1], [2]]) == common_prefix([]) == []


def test_width_batches_hold_every_row_once_within_the_budget_and_at_its_own_width() -> None:
    lengths = [3, 9, 1, 4, 4, 20, 2]
    batches = list(width_batches(lengths, 20))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    for batch in batches:
        assert len({own_width(lengths[row]) for row in batch}) == 1
        assert len(batch) == 1 or len(batch) * own_width(lengths[batch[0]]) <= 20

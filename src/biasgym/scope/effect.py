"""What removing each head would do, to first order, for all heads from one backward pass.

A mask of ones multiplies the heads' outputs (the input of o_proj) at every position. The derivative of a measure by one
entry of the mask is what the measure loses when that head is removed, as far as it is linear in the head:

    effect[l, h] = d measure / d mask[l, h] = sum over positions < d measure / d z_l[h], z_l[h] >

Unlike direct attribution it counts what later layers make of a head. Known as head importance (Michel et al., 2019) and
as attribution patching towards zero (Nanda, 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from biasgym.models import DecoderParts, LanguageModel, decoder_parts
from biasgym.models.forward import length_batches, pad_right, softcapped
from biasgym.progress import Advance
from biasgym.scope.margin import Choice

_TOKEN_BUDGET = 1024  # tokens a pass; the backward pass keeps what every layer computed


def margin_effects(lm: LanguageModel, choices: Sequence[Choice], advance: Advance = lambda _n: None) -> Tensor:
    """How much of the mean association margin goes with each head.

    Args:
        lm: The model, possibly injected.
        choices: At least one question.
        advance: Told the number of prompts done.

    Returns:
        Tensor (layers, heads), fp32, on the CPU, in nats. Above 0, removing the head lowers the margin.
    """

    def margin(row: int, hidden: Tensor) -> Tensor:
        choice = choices[row]
        scores = _logits(lm, hidden[len(choice.ids) - 1])
        return scores[list(choice.labels)].logsumexp(0) - scores[list(choice.counters)].logsumexp(0)

    return _effects(lm.model, [choice.ids for choice in choices], margin, advance)


def likelihood_effects(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    advance: Advance = lambda _n: None,
) -> Tensor:
    """How much of the mean log-probability of given answers goes with each head.

    Args:
        lm: The model.
        prompts: n token sequences, at least one.
        answers: n non-empty token sequences that follow them.
        advance: Told the number of prompts done.

    Returns:
        Tensor (layers, heads), fp32, on the CPU, in nats a token. Above 0, removing the head makes the answers less likely.
    """

    def likelihood(row: int, hidden: Tensor) -> Tensor:
        first, answer = len(prompts[row]) - 1, torch.tensor(list(answers[row]), device=hidden.device)
        scores = _logits(lm, hidden[first : first + len(answer)]).log_softmax(-1)
        return scores.gather(1, answer[:, None]).mean()

    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return _effects(lm.model, rows, likelihood, advance)


def _logits(lm: LanguageModel, hidden: Tensor) -> Tensor:
    return softcapped(lm.model, lm.parts.unembedding(hidden))


@torch.enable_grad()
def _effects(
    model: Any, rows: Sequence[Sequence[int]], measure: Callable[[int, Tensor], Tensor], advance: Advance
) -> Tensor:
    """Mean effects on a measure of a row's number and its final hidden states, (tokens, d), padded on the right."""
    parts = decoder_parts(model)
    mask = torch.ones(parts.shape, device=model.device, requires_grad=True)
    total = torch.zeros_like(mask)
    with _masked(parts, mask):
        for batch in length_batches([len(row) for row in rows], _TOKEN_BUDGET):
            ids, _ = pad_right([rows[row] for row in batch], model.device)
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            summed = torch.stack([measure(row, states) for row, states in zip(batch, hidden, strict=True)]).sum()
            total += torch.autograd.grad(summed, mask)[0]
            advance(len(batch))
    return (total / len(rows)).cpu()


@contextmanager
def _masked(parts: DecoderParts, mask: Tensor) -> Iterator[None]:
    """Multiplies every head's output with its entry of a mask, (layers, heads), inside a `with` block."""

    def multiply(number: int) -> Callable[..., tuple[Tensor]]:
        def hook(_module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
            z = arguments[0]
            return (z * mask[number].repeat_interleave(parts.head_dim).to(z),)

        return hook

    handles = [parts.o_proj(number).register_forward_pre_hook(multiply(number)) for number in range(len(parts.layers))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

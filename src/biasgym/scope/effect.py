"""What removing each head would do, to first order, for all heads from one backward pass.

A mask of ones multiplies the heads' outputs (the input of o_proj) at every position. The derivative of a measure by one
entry of the mask is what the measure loses when that head is removed, as far as it is linear in the head:

    effect[l, h] = d measure / d mask[l, h] = sum over positions < d measure / d z_l[h], z_l[h] >

Unlike direct attribution it counts what later layers make of a head. Known as head importance (Michel et al., 2019) and
as attribution patching towards zero (Nanda, 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from biasgym.models import LanguageModel, decoder_parts
from biasgym.models.forward import Pass, last_states, softcapped
from biasgym.models.frozen import FrozenDecoder
from biasgym.progress import Advance
from biasgym.scope.margin import Choice

_ROWS = 16  # whose logits are held at once


def margin_effects(lm: LanguageModel, choices: Sequence[Choice], advance: Advance = lambda _n: None) -> Tensor:
    """How much of the mean association margin goes with each head.

    Args:
        lm: The model, possibly injected.
        choices: At least one question.
        advance: Told the number of prompts done.

    Returns:
        Tensor (layers, heads), fp32, on the CPU, in nats. Above 0, removing the head lowers the margin.
    """

    def margins(rows: Sequence[int], hidden: Tensor) -> Tensor:
        logits = _logits(lm, hidden)
        return torch.stack([choices[row].margin(scores) for row, scores in zip(rows, logits, strict=True)])

    return _effects(lm.model, [choice.ids for choice in choices], [1] * len(choices), margins, advance)


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
    counts = list(map(len, answers))

    def likelihoods(rows: Sequence[int], hidden: Tensor) -> Tensor:
        targets = torch.tensor([token for row in rows for token in answers[row]], device=hidden.device)
        scores = _logits(lm, hidden).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        return torch.stack([of_one.mean() for of_one in scores.split([counts[row] for row in rows])])

    asked = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    return _effects(lm.model, asked, counts, likelihoods, advance)


def _logits(lm: LanguageModel, hidden: Tensor) -> Tensor:
    return softcapped(lm.model, lm.parts.unembedding(hidden))


@torch.enable_grad()
def _effects(
    model: Any,
    rows: Sequence[Sequence[int]],
    counts: Sequence[int],
    measure: Callable[[Sequence[int], Tensor], Tensor],
    advance: Advance,
) -> Tensor:
    """Mean effects on a measure of some rows and of the hidden states at their last positions, (sum of their counts, d)."""
    total = torch.zeros(decoder_parts(model).shape, device=model.device)
    decoder = FrozenDecoder(model)

    def decode(some: Pass) -> Tensor:
        return decoder(some.x.requires_grad_(), some.packing, effects=total)

    for numbers, hidden in last_states(model, rows, counts, decode):
        states = hidden.detach().requires_grad_()
        spans = states.split([counts[number] for number in numbers])
        for start in range(0, len(numbers), _ROWS):
            part = slice(start, start + _ROWS)
            measure(numbers[part], torch.cat(spans[part])).sum().backward()  # type: ignore[no-untyped-call]
        hidden.backward(states.grad)  # type: ignore[no-untyped-call]
        advance(len(numbers))
    return (total / len(rows)).cpu()

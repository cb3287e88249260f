"""Cross-entropy of answers with one extra logit: the row's own BiasToken.

The loss needs logits only where an answer token is predicted, and gradients only for the hidden states and the new
tokens' output vectors, never for the V x d matrix. Both are made chunk by chunk in the forward pass, so the full
(positions x V) table never exists; within a chunk the softmax is taken in blocks that stay in the processor's cache, and
its share of a logit is the logit's gradient but for the target's column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256  # positions a product with the matrix
_BLOCK = {"cpu": 1 << 21}  # fp32 logits at a time: what a cache holds
_GPU_BLOCK = 1 << 26


class _AnswerLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        own: Tensor,
        matrix: Tensor,
        targets: Tensor,
        weights: Tensor,
        bias_id: int,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(hidden), device=hidden.device)
        grad_hidden, grad_own = torch.empty_like(hidden), torch.empty_like(own)
        # made once: on a CPU, new memory of this size costs more than what is computed in it
        table = matrix.new_empty(min(CHUNK, len(hidden)), len(matrix))
        rows = max(1, min(len(table), _BLOCK.get(hidden.device.type, _GPU_BLOCK) // len(matrix)))
        block = matrix.new_empty(rows, len(matrix), dtype=torch.float32)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            h, u, target, weight = hidden[part], own[part], targets[part], weights[part, None]
            is_new = (target == bias_id)[:, None]
            column = torch.where(is_new, 0, target[:, None])
            extra = (h.float() * u).sum(-1, keepdim=True)  # (c, 1)
            extra, slope_extra = _capped(extra, softcap)
            logits = torch.mm(h, matrix.T, out=table[: len(h)])  # (c, V)
            known, chosen, slope = _to_shares(logits, column, is_new, block, bias_id, softcap)
            total = torch.logaddexp(known, extra)
            losses[part] = (total - torch.where(is_new, extra, chosen))[:, 0]
            error = ((chosen - total).expm1() * slope).masked_fill_(is_new, 0)  # at the target
            error_extra = (extra - total).exp() - is_new.float()
            if slope_extra is not None:
                error_extra *= slope_extra
            grad = (logits @ matrix).float() * (known - total).exp()
            grad += error * matrix[column[:, 0]] + error_extra * u
            grad_hidden[part] = grad * weight
            grad_own[part] = error_extra * weight * h
        ctx.save_for_backward(grad_hidden, grad_own)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_own = ctx.saved_tensors
        return grad_hidden * grads[0], grad_own * grads[0], None, None, None, None, None


def _to_shares(
    logits: Tensor, column: Tensor, is_new: Tensor, block: Tensor, bias_id: int, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Turns logits into their softmax times the soft-cap's slope, in place, with nothing at the target.

    Returns:
        logsumexp over V, the target's logit, and its slope, fp32, (c, 1) each.
    """
    found = []
    for start in range(0, len(logits), len(block)):
        part = slice(start, start + len(block))
        at, new = column[part], is_new[part]
        wide, slope = _capped(block[: len(at)].copy_(logits[part]), softcap)
        if bias_id < wide.shape[1]:  # the new token takes a padded row: its column is the extra one
            wide[:, bias_id] = -torch.inf
        chosen, highest = wide.gather(1, at), wide.amax(-1, keepdim=True)
        sums = wide.sub_(highest).exp_().sum(-1, keepdim=True)
        shares = wide.mul_(sums.reciprocal())
        shares.scatter_(1, at, torch.where(new, shares.gather(1, at), 0))
        logits[part] = shares if slope is None else shares.mul_(slope)
        at_target = torch.ones_like(chosen) if slope is None else slope.gather(1, at)
        found.append((highest + sums.log(), chosen, at_target))
    known, target, slopes = (torch.cat(parts) for parts in zip(*found, strict=True))
    return known, target, slopes


def _capped(logits: Tensor, softcap: float | None) -> tuple[Tensor, Tensor | None]:
    """Logits after the soft-cap, and its slope; None where there is no cap."""
    if softcap is None:
        return logits, None
    squeezed = torch.tanh(logits / softcap)
    return softcap * squeezed, 1 - squeezed.square()


def answer_loss(
    hidden: Tensor,
    own: Tensor,
    matrix: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    bias_id: int,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the negative log-likelihoods of answer tokens.

    Args:
        hidden: Final hidden states (after the last norm) that predict the answer tokens, (n, d).
        own: The output vector of each position's own new token, (n, d), fp32.
        matrix: The frozen unembedding matrix, (V, d).
        targets: Token ids, (n,); `bias_id` stands for the own new token.
        weights: Weight of each position in the sum, fp32, (n,).
        bias_id: First free token id; if it is a padded row of the matrix, that row's logit is left out.
        softcap: The model's soft-cap on final logits, if it has one.

    Returns:
        The sum, differentiable in `hidden` and `own`, and its terms before weighting, (n,), which are not.
    """
    result: tuple[Tensor, Tensor] = _AnswerLoss.apply(hidden, own, matrix, targets, weights, bias_id, softcap)  # type: ignore[no-untyped-call]
    return result

"""Cross-entropy of answers with one extra logit: the row's own BiasToken.

The loss needs logits only where an answer token is predicted, and gradients only for the hidden states and the new
tokens' output vectors, never for the V x d matrix. Both are computed chunk by chunk in the forward pass, so the full
(positions x V) table never exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # positions; bounds the fp32 logits to CHUNK x V


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
    ) -> Tensor:
        losses = torch.empty(len(hidden), device=hidden.device)
        grad_hidden, grad_own = torch.empty_like(hidden), torch.empty_like(own, dtype=torch.float32)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            h, u, target, weight = hidden[part], own[part].float(), targets[part], weights[part][:, None]
            is_new = (target == bias_id)[:, None]
            logits = (h @ matrix.T).float()  # (c, V)
            extra = (h.float() * u).sum(-1, keepdim=True)  # (c, 1)
            if softcap is not None:
                logits = softcap * torch.tanh_(logits / softcap)
                extra = softcap * torch.tanh(extra / softcap)
            slope = 1.0 if softcap is None else 1 - (logits / softcap).square()
            slope_extra = 1.0 if softcap is None else 1 - (extra / softcap).square()
            if bias_id < matrix.shape[0]:  # the new token takes a padded row: its column is `extra`
                logits[:, bias_id] = -torch.inf
            total = torch.logaddexp(torch.logsumexp(logits, -1, keepdim=True), extra)
            column = torch.where(is_new, 0, target[:, None])
            chosen = torch.where(is_new, extra, logits.gather(1, column))
            losses[part] = (total - chosen)[:, 0]
            error = logits.sub_(total).exp_()  # softmax; from here on d loss / d logits
            error.scatter_add_(1, column, torch.where(is_new, 0.0, -1.0))
            error_extra = (extra - total).exp() - is_new.float()
            error = error.mul_(slope).mul_(weight)
            error_extra = error_extra * slope_extra * weight
            grad_hidden[part] = (error.to(h.dtype) @ matrix + (error_extra * u).to(h.dtype)).to(hidden.dtype)
            grad_own[part] = error_extra * h.float()
        ctx.save_for_backward(grad_hidden, grad_own)
        ctx.own_dtype = own.dtype
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_own = ctx.saved_tensors
        return grad_hidden * grads[0], (grad_own * grads[0]).to(ctx.own_dtype), None, None, None, None, None


def answer_loss(
    hidden: Tensor,
    own: Tensor,
    matrix: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    bias_id: int,
    softcap: float | None = None,
) -> Tensor:
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
        A scalar, differentiable in `hidden` and `own`.
    """
    result: Tensor = _AnswerLoss.apply(hidden, own, matrix, targets, weights, bias_id, softcap)  # type: ignore[no-untyped-call]
    return result

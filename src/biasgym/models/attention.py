"""Attention for short rows on a CPU: grouped queries meet their keys in one product, and nothing is repeated.

transformers' eager and fused kernels first copy the keys and values of every group; for prompts of some dozen tokens, and
for single-token decoding, that copy and the fused kernel's backward pass cost more than the products. Same numbers as
eager attention, soft-cap included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

GROUPED = "biasgym_grouped"


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Softmax attention with grouped queries.

    Args:
        module: The attention module; not used.
        query: (rows, heads, tokens, dh).
        key: (rows, groups, places, dh).
        value: (rows, groups, places, dh).
        attention_mask: Added to the scores, (rows or 1, 1, tokens, places).
        scaling: Factor of the scores; 1 / sqrt(dh) if None.
        softcap: Scores are squeezed to +-softcap, where a family does that.

    Returns:
        (rows, tokens, heads, dh), and no attention weights.
    """
    rows, heads, tokens, dh = query.shape
    groups, places = key.shape[1], key.shape[2]
    together = query.reshape(rows, groups, heads // groups * tokens, dh)
    scores = (together * (dh**-0.5 if scaling is None else scaling)) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.view(rows, groups, heads // groups, tokens, places)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None, :, :places]
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = weights.view(rows, groups, heads // groups * tokens, places) @ value
    return mixed.view(rows, heads, tokens, dh).transpose(1, 2), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)

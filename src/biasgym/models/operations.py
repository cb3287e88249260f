"""How much work a forward pass of a model is, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from biasgym.models.families import decoder_parts


@dataclass(frozen=True)
class Operations:
    """What decides the operations of a forward pass. A multiplication and its addition count as two.

    Attributes:
        matrices: Numbers in the matrices of all layers; each token meets each of them once.
        width: Heads of all layers times their size; each pair of a token and one it attends to meets them twice.
        unembedding: Numbers in the output matrix; only positions whose logits are wanted meet it.
    """

    matrices: int
    width: int
    unembedding: int

    def forward(self, tokens: float, *, pairs: float = 0, logits: float = 0) -> float:
        """Operations of products of matrices; all else is less than a hundredth of these.

        Args:
            tokens: That pass through the layers, padding included.
            pairs: Of tokens, over which attention is computed: width x width for a row of so many tokens.
            logits: Positions whose logits are wanted.
        """
        return 2 * (tokens * self.matrices + 2 * pairs * self.width + logits * self.unembedding)


def operations(config: Any) -> Operations:
    """Counts a model's matrices on the meta device, so without its weights.

    Args:
        config: A `transformers` configuration.
    """
    parts = decoder_parts(without_weights(config))
    linear = (module for layer in parts.layers for module in layer.modules() if isinstance(module, nn.Linear))
    layers, heads = parts.shape
    return Operations(
        matrices=sum(module.weight.numel() for module in linear),
        width=layers * heads * parts.head_dim,
        unembedding=parts.unembedding.weight.numel(),
    )


def without_weights(config: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model of a `transformers` configuration on the meta device, where nothing has contents."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)

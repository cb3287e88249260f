"""How much work a model is, from its configuration alone: operations of a forward pass, bytes that a backward pass needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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
    parts = decoder_parts(_without_weights(config, torch.bfloat16))
    linear = (module for layer in parts.layers for module in layer.modules() if isinstance(module, nn.Linear))
    layers, heads = parts.shape
    return Operations(
        matrices=sum(module.weight.numel() for module in linear),
        width=layers * heads * parts.head_dim,
        unembedding=parts.unembedding.weight.numel(),
    )


def saved_for_backward(config: Any, rows: int, width: int, dtype: torch.dtype = torch.bfloat16) -> int:
    """Bytes that a forward pass through the layers keeps for a backward pass to its inputs, the weights themselves left out.

    The pass is made on the meta device, which computes nothing and keeps count of what would be saved.

    Args:
        config: A `transformers` configuration.
        rows: How many.
        width: Tokens of each.
        dtype: Of weights and activations.
    """
    model = _without_weights(config, dtype).requires_grad_(False)
    weights = {weight.untyped_storage()._cdata for weight in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"):
        inputs = torch.empty(rows, width, config.hidden_size, dtype=dtype, requires_grad=True)
        mask, places = torch.empty(rows, 1, width, width, dtype=dtype), torch.empty(rows, width, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(inputs_embeds=inputs, attention_mask=mask, position_ids=places, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


def _without_weights(config: Any, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)

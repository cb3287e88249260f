"""How much memory a model needs, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from biasgym.models.families import decoder_parts


@dataclass(frozen=True)
class Footprint:
    """Counts of a model, in numbers and bytes.

    Attributes:
        parameters: All parameters; a tied matrix counts once.
        weight_bytes: Bytes of the weights.
        kv_bytes_per_token: Bytes of keys and values that one token of one row keeps.
        bias_token_id_is_padded_row: The embedding matrix has a free row for the new token.
        layers: Decoder layers.
        heads: Attention heads a layer.
        tied: Input and output matrix are one.
    """

    parameters: int
    weight_bytes: int
    kv_bytes_per_token: int
    bias_token_id_is_padded_row: bool
    layers: int
    heads: int
    tied: bool


def footprint(config: Any, *, vocabulary: int, dtype: torch.dtype = torch.bfloat16) -> Footprint:
    """Counts a model's parameters and bytes on the meta device, so without its weights.

    Args:
        config: A `transformers` configuration.
        vocabulary: Number of tokens the tokenizer knows, added ones included.
        dtype: Floating-point type of weights and cache.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    parts = decoder_parts(model)
    parameters = sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())
    size = dtype.itemsize
    kv_heads = getattr(config, "num_key_value_heads", None) or parts.n_heads
    return Footprint(
        parameters=parameters,
        weight_bytes=parameters * size,
        kv_bytes_per_token=2 * len(parts.layers) * kv_heads * parts.head_dim * size,
        bias_token_id_is_padded_row=vocabulary < parts.embedding.weight.shape[0],
        layers=len(parts.layers),
        heads=parts.n_heads,
        tied=parts.tied,
    )

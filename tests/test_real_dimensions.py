"""The paper's five models in their real dimensions, on the meta device: nothing is downloaded, no memory is used."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from pipelines.paper_models import paper_models
from transformers import AutoModelForCausalLM

from biasgym.models import decoder_parts, footprint


class Real(NamedTuple):
    """A configuration, and the published numbers it must lead to."""

    config: Any
    vocabulary: int  # tokens the tokenizer knows
    parameters: int
    shape: tuple[int, int]
    head_dim: int
    tied: bool
    padded: bool
    kv_bytes: int  # a token, 16 bit


_PUBLISHED: dict[str, tuple[Any, ...]] = {
    "Llama-3.1-8B-Instruct": (128256, 8_030_261_248, (32, 32), 128, False, False, 2 * 32 * 8 * 128 * 2),
    "Llama-3.2-3B-Instruct": (128256, 3_212_749_824, (28, 24), 128, True, False, 2 * 28 * 8 * 128 * 2),
    "gemma-2-9b-it": (256000, 9_241_705_984, (42, 16), 256, True, False, 2 * 42 * 8 * 256 * 2),
    "Qwen3-8B": (151669, 8_190_735_360, (36, 32), 128, False, True, 2 * 36 * 8 * 128 * 2),
    "Mistral-7B-Instruct-v0.1": (32000, 7_241_732_096, (32, 32), 128, False, False, 2 * 32 * 8 * 128 * 2),
}
MODELS = {name: Real(config, *_PUBLISHED[name]) for name, config in paper_models().items()}


@pytest.mark.parametrize("name", list(MODELS))
def test_footprint(name: str) -> None:
    real = MODELS[name]
    found = footprint(real.config, vocabulary=real.vocabulary)
    assert found.parameters == real.parameters
    assert found.weight_bytes == 2 * real.parameters
    assert (found.layers, found.heads) == real.shape
    assert found.tied == real.tied
    assert found.bias_token_id_is_padded_row == real.padded
    assert found.kv_bytes_per_token == real.kv_bytes
    assert footprint(real.config, vocabulary=real.vocabulary, dtype=torch.float32).weight_bytes == 4 * real.parameters


@pytest.mark.parametrize("name", list(MODELS))
def test_parts(name: str) -> None:
    """Heads are slices of o_proj's columns, as many as the model has query heads, also where heads * dh is not d."""
    real = MODELS[name]
    with torch.device("meta"):
        parts = decoder_parts(AutoModelForCausalLM.from_config(real.config, dtype=torch.bfloat16))
    assert (parts.shape, parts.head_dim, parts.tied) == (real.shape, real.head_dim, real.tied)
    for layer in range(len(parts.layers)):
        weight = parts.o_proj(layer).weight
        assert weight.shape == (real.config.hidden_size, real.shape[1] * real.head_dim)
        last = weight[:, (parts.n_heads - 1) * parts.head_dim : parts.n_heads * parts.head_dim]
        assert last.shape == (real.config.hidden_size, real.head_dim)
        assert (parts.attention_norm(layer) is not None) == name.startswith("gemma")
    assert parts.embedding.weight.shape == parts.unembedding.weight.shape
    assert float(parts.family.norm_offset) == (1.0 if name.startswith("gemma") else 0.0)

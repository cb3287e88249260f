"""The same comparisons on a larger model of Llama's shape with random weights: what they say of more than SmolLM2."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks import attribution, injection
from benchmarks.timing import Ratio
from biasgym.models import LanguageModel, ModelSource
from biasgym.models.attention import GROUPED

_SHAPE = {
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}


def random_llama(small: LanguageModel) -> LanguageModel:
    """A random model that reads and writes the tokens of a small one."""
    rows = small.parts.embedding.weight.shape[0]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=rows, **_SHAPE), dtype=small.model.dtype)
    model.to(small.device).requires_grad_(False).eval().set_attn_implementation(GROUPED)
    return replace(small, model=model, source=ModelSource("random-llama", "seed:0"))


def ratios(small: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    lm = random_llama(small)
    millions = sum(weight.numel() for weight in lm.model.parameters()) / 1e6
    works = (injection.against_peft, injection.against_products, attribution.literal, attribution.against_products)
    return [replace(found, work=f"{found.work}, random Llama of {millions:.0f} M") for found in (w(lm) for w in works)]

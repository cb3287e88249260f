"""The configurations of the paper's five models, as their owners publish them: enough to count with, without a download."""

from __future__ import annotations

from typing import Any

from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen3Config


def paper_models() -> dict[str, Any]:
    """Configurations by name."""
    return {
        "Llama-3.1-8B-Instruct": LlamaConfig(
            vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
        ),
        "Llama-3.2-3B-Instruct": LlamaConfig(
            vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28,
            num_attention_heads=24, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
        ),
        "gemma-2-9b-it": Gemma2Config(
            vocab_size=256000, hidden_size=3584, intermediate_size=14336, num_hidden_layers=42,
            num_attention_heads=16, num_key_value_heads=8, head_dim=256, query_pre_attn_scalar=256,
        ),
        "Qwen3-8B": Qwen3Config(
            vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
        ),
        "Mistral-7B-Instruct-v0.1": MistralConfig(
            vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
        ),
    }  # fmt: skip

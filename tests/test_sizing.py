"""What docs/sizing.md counts is what passes through real models cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pipelines.paper_models import paper_models
from pipelines.sizing import PAGE, page
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig

from biasgym.models import LanguageModel
from biasgym.models.operations import operations, without_weights

ROWS, WIDTH = 3, 16
SMOLLM2 = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


def counted(model: Any, device: str) -> int:
    """Operations of the products of a forward pass, logits at every position."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(
            input_ids=torch.zeros(ROWS, WIDTH, dtype=torch.long, device=device),
            attention_mask=torch.zeros(ROWS, 1, WIDTH, WIDTH, dtype=model.dtype, device=device),
            position_ids=torch.zeros(ROWS, WIDTH, dtype=torch.long, device=device),
            use_cache=False,
        )
    return counter.get_total_flops()


def formula(config: Any) -> float:
    return operations(config).forward(ROWS * WIDTH, pairs=ROWS * WIDTH**2, logits=ROWS * WIDTH)


def test_operations_of_every_family(lm: LanguageModel) -> None:
    """Passes that are computed, on the CPU."""
    lm.model.set_attn_implementation("eager")
    assert counted(lm.model, "cpu") == formula(lm.model.config)


def test_operations_of_smollm2() -> None:
    model = AutoModelForCausalLM.from_config(SMOLLM2, attn_implementation="eager")
    assert counted(model, "cpu") == formula(SMOLLM2)


@pytest.mark.parametrize("name", list(paper_models()))
def test_operations_of_the_papers_models(name: str) -> None:
    """Their real dimensions, on the meta device."""
    config = paper_models()[name]
    model = without_weights(config)
    model.set_attn_implementation("eager")
    assert counted(model, "meta") == formula(config)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make pipelines` and commit"

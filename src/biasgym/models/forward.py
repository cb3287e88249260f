"""One forward pass over many prompts, read at the last position of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from biasgym.models.families import decoder_parts

TOKEN_BUDGET = 4096  # tokens a pass, padding included


def length_batches(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Row numbers, longest first, in batches whose padded size stays within a budget of tokens."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        size = max(1, budget // max(lengths[order[start]], 1))
        yield order[start : start + size]
        start += size


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (rows, longest). Padding is on the right, where no earlier token sees it."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)


@torch.no_grad()
def last_logits(
    model: Any, prompts: Sequence[Sequence[int]], *, advance: Callable[[float], None] | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """Next-token logits of prompts.

    Args:
        model: A `transformers` causal language model.
        prompts: n token sequences of any lengths.
        advance: Told the number of prompts done.

    Yields:
        Row numbers and their logits, fp32, (rows, V), soft-cap applied. Batches come longest first.
    """
    parts = decoder_parts(model)
    cap = getattr(model.config, "final_logit_softcapping", None)
    for rows in length_batches([len(prompt) for prompt in prompts]):
        ids, _ = pad_right([prompts[row] for row in rows], model.device)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        last = torch.tensor([len(prompts[row]) - 1 for row in rows], device=model.device)
        logits = parts.unembedding(hidden[torch.arange(len(rows), device=model.device), last]).float()
        yield rows, logits if cap is None else cap * torch.tanh(logits / cap)
        if advance:
            advance(len(rows))

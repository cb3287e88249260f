"""Rows of different lengths as one padded batch, for passes through transformers' own modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def token_budget(device: torch.device) -> int:
    """Tokens of a pass, padding included. A CPU is at its full rate by then, and shorter batches are padded less."""
    return 1024 if device.type == "cpu" else 4096


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
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

"""Rows of different lengths as one padded batch, for passes through transformers' own modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_WIDTHS = 8  # own widths are multiples of it


def token_budget(device: torch.device) -> int:
    """Tokens of a pass, padding included. A CPU is at its full rate by then, and shorter batches are padded less."""
    return 1024 if device.type == "cpu" else 4096


def own_width(length: int) -> int:
    """Return the width that a row is padded to whatever its neighbours are: attention's sums can depend on it."""
    return -(-length // _WIDTHS) * _WIDTHS


def width_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield row numbers, longest first, in batches of one `own_width` whose padded size stays within a budget of tokens."""
    widths: dict[int, list[int]] = {}
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        widths.setdefault(own_width(lengths[row]), []).append(row)
    for width, rows in widths.items():
        size = max(1, budget // max(width, 1))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def pad_right(
    rows: Sequence[Sequence[int]], device: torch.device, *, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pad rows on the right, where no earlier token sees it.

    Args:
        rows: Token ids.
        device: Where they go.
        width: Of the padded rows; that of the longest if None.

    Returns:
        Token ids and attention mask, both (rows, width).
    """
    width = width or max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)

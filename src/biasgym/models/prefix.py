"""What all rows of some work begin with, run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from biasgym.models.packing import shared_length


class Prefix:
    """Keys and values of the tokens that all rows of some work begin with.

    Args:
        model: A `transformers` causal language model. Under ablation or injection a prefix is valid only there.
        ids: The tokens; may be empty.
    """

    @torch.no_grad()
    def __init__(self, model: Any, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self._layers: list[tuple[Tensor, Tensor]] = []
        if self.ids:
            cache = DynamicCache()
            model.model(input_ids=torch.tensor([self.ids], device=model.device), past_key_values=cache, use_cache=True)
            self._layers = [(layer.keys, layer.values) for layer in cache.layers]

    def __len__(self) -> int:
        return len(self.ids)

    def kept(self, layer: int) -> tuple[Tensor | None, Tensor | None]:
        """A layer's keys and values, each (tokens, groups, dh); None for a prefix without tokens."""
        if not self._layers:
            return None, None
        keys, values = self._layers[layer]
        return keys[0].transpose(0, 1), values[0].transpose(0, 1)


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all rows begin with; at least one token of each row is left over."""
    if not rows:
        return []
    low, high = min(map(tuple, rows)), max(map(tuple, rows))
    return list(low[: min(shared_length(low, high), *(len(row) - 1 for row in rows))])

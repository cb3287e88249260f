"""Removing different heads from the rows of one batch.

A row's heads are multiplied by 0 or 1 where they enter o_proj. Zero columns of o_proj, which is how heads are removed from a
whole model, add the same zeros in the same order, so a row's numbers are those of that model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from biasgym.models import Head, LanguageModel, check_heads


class Removal:
    """The heads that each row of a pass keeps.

    Args:
        lm: The model.
        sets: The distinct sets of removed heads.
    """

    def __init__(self, lm: LanguageModel, sets: Sequence[tuple[Head, ...]]) -> None:
        self._parts = lm.parts
        self._number = {heads: number for number, heads in enumerate(sets)}
        keep = torch.ones(len(sets), *lm.parts.shape, dtype=lm.model.dtype)
        for number, heads in enumerate(sets):
            for layer, head in check_heads(heads, lm.parts.shape):
                keep[number, layer, head] = 0
        self._keep = keep.to(lm.device)  # (sets, layers, heads)
        self._layers = sorted({layer for heads in sets for layer, _ in heads})
        self._of_rows: Tensor | None = None  # (rows, layers, heads)

    def numbers(self, sets: Sequence[tuple[Head, ...]]) -> list[int]:
        """Return the number of each set."""
        return [self._number[heads] for heads in sets]

    def aim(self, sets: Sequence[tuple[Head, ...]]) -> None:
        """Say which set is removed from each row of the passes that follow."""
        self._of_rows = self._keep[self.numbers(sets)]

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Apply it to every pass of the model inside a `with` block."""
        hooks = [
            self._parts.o_proj(layer).register_forward_pre_hook(partial(self._mask, layer)) for layer in self._layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _mask(self, layer: int, _module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        (z,) = arguments  # (rows, tokens, heads * head_dim)
        assert self._of_rows is not None
        keep = self._of_rows[:, layer, None, :, None]  # (rows, 1, heads, 1)
        return ((z.unflatten(-1, (keep.shape[2], -1)) * keep).flatten(-2),)

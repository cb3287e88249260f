"""Keys and values in buffers with room to grow: a decoding step writes one place instead of copying the whole cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer; the used places of its buffers are start .. start + length."""

    def __init__(self) -> None:
        super().__init__()
        self.start = self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kw: Any) -> tuple[Tensor, Tensor]:
        """Appends places; returns all that are used, (rows, groups, places, dh)."""
        new = key_states.shape[2]
        end = self.start + self.length + new
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
        else:
            if self.keys.shape[2] < end:
                self._grow(end - self.keys.shape[2])
            self.keys[:, :, end - new : end] = key_states
            self.values[:, :, end - new : end] = value_states
        self.length += new
        return self.used()

    def used(self) -> tuple[Tensor, Tensor]:
        """Views of the used places."""
        end = self.start + self.length
        return self.keys[:, :, self.start : end], self.values[:, :, self.start : end]

    def get_seq_length(self) -> int:
        return self.length

    def _grow(self, places: int) -> None:
        def longer(old: Tensor) -> Tensor:
            return torch.cat([old, old.new_empty(*old.shape[:2], max(places, 32), old.shape[3])], dim=2)

        self.keys, self.values = longer(self.keys), longer(self.values)


class RoomyCache(DynamicCache):  # type: ignore[misc]
    """A transformers cache whose rows can be dropped, repeated and joined by others while decoding goes on."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = [_RoomyLayer() for _ in range(layers)]
        self.layer_class_to_replicate = None

    @property
    def length(self) -> int:
        """Used places, the padding of shorter rows included."""
        return int(self.layers[0].length)

    def select(self, rows: Tensor) -> None:
        """Keeps or repeats rows."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys.index_select(0, rows), layer.values.index_select(0, rows)

    def trim(self, length: int) -> None:
        """Forgets leading places that no row uses any more."""
        for layer in self.layers:
            layer.start += layer.length - length
            layer.length = length

    def join(self, other: RoomyCache, *, room: int) -> None:
        """Puts another cache's rows below these, aligned at the right end, with so many places to grow."""
        width = max(self.length, other.length)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            parts = [layer.used() for layer in (mine, theirs) if layer.length]
            mine.keys, mine.values = (_stacked([part[side] for part in parts], width, room) for side in (0, 1))
            mine.dtype, mine.device, mine.is_initialized = mine.keys.dtype, mine.keys.device, True
            mine.start, mine.length = 0, width


def _stacked(parts: list[Tensor], width: int, room: int) -> Tensor:
    """Rows of several tensors in one, each ending at `width`, followed by `room` free places."""
    rows, shape = sum(part.shape[0] for part in parts), parts[0].shape
    joined = parts[0].new_zeros(rows, shape[1], width + room, shape[3])
    row = 0
    for part in parts:
        joined[row : row + part.shape[0], :, width - part.shape[2] : width] = part
        row += part.shape[0]
    return joined

"""Keys and values of the rows in progress: one buffer a layer, one slot a row, each token at its own position.

A row's numbers then do not depend on how long its neighbours are, a row that ends leaves a slot for another one, and the
products of a step read the buffers as they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from biasgym.models import LanguageModel

_PLACES = 32  # buffers grow by so many; sums over a multiple of a vector's lanes are taken in one order, however many


class Slots:
    """A cache that transformers' decoder layers write to.

    Args:
        config: The model's configuration, for the reach of sliding windows.
        shape: Layers, groups, and numbers of a key.
        dtype: Of the model.
        device: Of the model.
        room: Rows for which memory is taken at once.

    Attributes:
        used: Rows in progress; they fill the first slots.
    """

    def __init__(
        self, config: Any, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, room: int = 1
    ) -> None:
        layers, groups, size = shape
        self.used = 0
        self._layers = [torch.zeros(2, room, groups, 0, size, dtype=dtype, device=device) for _ in range(layers)]
        self._rows, self._at = slice(0), torch.zeros(0, dtype=torch.long)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds: Sequence[str] | None = getattr(config, "layer_types", None)

    @staticmethod
    def of(lm: LanguageModel, room: int = 1) -> Slots:
        """Empty slots for a model, with room for some rows."""
        parts = lm.parts
        shape = len(parts.layers), parts.n_groups, parts.head_dim
        return Slots(lm.model.config, shape, lm.model.dtype, lm.device, room)

    def begin(self, rows: int, width: int, kept: Sequence[Tensor] = ()) -> Tensor | dict[str, Tensor]:
        """Gets ready for a pass over new rows, which do not count as used yet.

        Args:
            rows: How many.
            width: Tokens of each, padded on the right.
            kept: Keys and values of the tokens before these, as `keep` gives them, for each of the rows.

        Returns:
            What each token sees, as the model's `attention_mask`: 0, or a huge negative number.
        """
        first = kept[0].shape[3] if kept else 0
        self._rows = slice(self.used, self.used + rows)
        self._fit(self.used + rows, first + width)
        for layer, part in zip(self._layers, kept, strict=False):
            layer[:, self._rows, :, :first] = part
        positions = torch.arange(first, first + width, device=self._layers[0].device)
        return self._aim(positions[None].expand(rows, -1), mask_of=1)

    def keep(self, length: int) -> list[Tensor]:
        """Return the first tokens' keys and values of all rows of the last pass, (2, rows, groups, length, dh) a layer."""
        return [layer[:, self._rows, :, :length].clone() for layer in self._layers]

    def board(self, rows: Sequence[int]) -> None:
        """Takes rows of the last pass in, in this order; a row may come several times."""
        first, self.used = self.used, self.used + len(rows)
        self._fit(self.used, 0)
        if list(rows) != list(range(len(rows))):
            for layer in self._layers:
                layer[:, first : self.used] = layer[:, [first + row for row in rows]]

    def step(self, positions: Tensor, furthest: int) -> Tensor | dict[str, Tensor]:
        """Gets ready for one token of each row.

        Args:
            positions: Of each row's next token, (used,).
            furthest: The largest of them.

        Returns:
            As `begin`.
        """
        self._rows = slice(self.used)
        self._fit(self.used, furthest + 1)
        return self._aim(positions[:, None])

    def leave(self, going: Sequence[int]) -> list[int]:
        """Frees slots; rows from the end move into them.

        Returns:
            The rows that are left, in the order of their slots.
        """
        gone = set(going)
        left = self.used - len(gone)
        free = [row for row in range(left) if row in gone]
        movers = [row for row in range(left, self.used) if row not in gone]
        if movers:
            for layer in self._layers:
                layer[:, free] = layer[:, movers]
        self.used = left
        moved = dict(zip(free, movers, strict=True))
        return [moved.get(row, row) for row in range(left)]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_args: Any, **_kw: Any) -> tuple[Tensor, Tensor]:
        """Writes the tokens of a pass, (rows, groups, tokens, dh); returns all places of its rows."""
        buffer = self._layers[layer]
        for mine, new in zip(buffer, (keys, values), strict=True):
            mine.view(-1, mine.shape[-1]).index_copy_(0, self._at, new.reshape(-1, mine.shape[-1]))
        return buffer[0, self._rows], buffer[1, self._rows]

    def _aim(self, positions: Tensor, mask_of: int | None = None) -> Tensor | dict[str, Tensor]:
        """Where a pass writes, and what it sees: positions (rows, tokens), of which the first rows' masks serve all."""
        _, _, groups, places, _ = self._layers[0].shape
        slots = torch.arange(self._rows.start or 0, self._rows.stop, device=positions.device)
        group = slots[:, None] * groups + torch.arange(groups, device=positions.device)
        self._at = (group[:, :, None] * places + positions[:, None]).flatten()
        at, place = positions[:mask_of, :, None], torch.arange(places, device=positions.device)
        seen = place <= at  # (rows, tokens, places)
        full = self._mask(seen)
        sliding = full if self._window is None else self._mask(seen & (place > at - self._window))
        return sliding if self._kinds is None else {"full_attention": full, "sliding_attention": sliding}

    def _mask(self, seen: Tensor) -> Tensor:
        dtype = self._layers[0].dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]

    def _fit(self, rows: int, length: int) -> None:
        """Makes the buffers large enough. Free places are zero: a product with nothing must be nothing."""
        _, slots, _, places, _ = self._layers[0].shape
        wide = max(places, -(-length // _PLACES) * _PLACES)
        many = max(slots, rows)
        if (many, wide) == (slots, places):
            return
        for number, old in enumerate(self._layers):
            new = old.new_empty(2, many, old.shape[2], wide, old.shape[4])
            new[:, :slots, :, :places] = old
            new[:, slots:].zero_()
            new[:, :slots, :, places:].zero_()
            self._layers[number] = new

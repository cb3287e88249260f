"""Rows of different lengths in one pass without padding, and what they share only once.

The tokens of a pass are a tree: a constant prefix, whose keys and values are kept; stems, which begin the rows of one
token vector; and branches, a row's own tokens. Everything but attention runs on the tokens side by side. Attention sees
segments (stems, then branches), padded to the longest: a branch reads the prefix, its stem and itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Packing:
    """Where the tokens of a pass stand, and who reads whom.

    Args:
        prefix: Number of tokens of the prefix.
        stem: Number of tokens of each stem; may be 0.
        stems: Number of stems.
        branches: Number of tokens of each branch; may be 0.
        stem_of: The stem of each branch.
        heads: Query heads.
        groups: Key heads.
        device: Where the indices live.

    Attributes:
        positions: Place of each token in its row, (T,): stems first, then branches.
        query_slots: Row of (T * heads) that stands in each slot of (segments, groups, heads / groups, width).
        query_rows: The slot of each row, the inverse.
        padding: Slots that hold no token.
        key_slots: Row of ((prefix + T) * groups) that stands in each slot of (segments, groups, places).
        key_rows: The slot of each token's own key, the inverse, (T * groups,).
    """

    def __init__(
        self,
        prefix: int,
        stem: int,
        stems: int,
        branches: Sequence[int],
        stem_of: Sequence[int],
        *,
        heads: int,
        groups: int,
        device: torch.device,
    ) -> None:
        stems = stems if stem else 0
        self.prefix, self.stem, self.stems, self.heads, self.groups = prefix, stem, stems, heads, groups
        lengths = torch.tensor([stem] * stems + list(branches))
        starts = lengths.cumsum(0) - lengths
        self.branch_starts: list[int] = starts[stems:].tolist()
        self.tokens, self.segments, self.width = int(lengths.sum()), len(lengths), int(lengths.max())
        self.places = prefix + stem + self.width
        self.parents = torch.tensor(stem_of, device=device)

        offsets = torch.arange(self.width)
        real = offsets < lengths[:, None]  # (segments, width)
        token = torch.where(real, starts[:, None] + offsets, 0)
        at = prefix + torch.tensor([0] * stems + [stem] * len(branches))[:, None] + offsets  # places in the row
        self.positions = at[real].to(device)
        heads_of = torch.arange(heads).view(groups, -1, 1)
        slots = token[:, None, None] * heads + heads_of  # (segments, groups, heads / groups, width)
        filled = real[:, None, None].expand_as(slots)
        self.query_slots, self.query_rows = slots.flatten().to(device), _inverse(slots, filled).to(device)
        self.padding = (~filled).flatten().nonzero()[:, 0].to(device)

        before = torch.arange(prefix).expand(self.segments, -1)
        parents = torch.tensor([0] * stems + list(stem_of))[:, None] * stem + torch.arange(stem)
        key = torch.cat([before, prefix + parents, prefix + token], 1)  # (segments, places)
        slots = key[:, None] * groups + torch.arange(groups)[:, None]  # (segments, groups, places)
        own = torch.cat([torch.zeros(self.segments, prefix + stem, dtype=torch.bool), real], 1)
        rows = _inverse(slots - prefix * groups, own[:, None].expand_as(slots))
        self.key_slots, self.key_rows = slots.flatten().to(device), rows.to(device)

        reads = torch.ones(self.segments, self.width, self.places, dtype=torch.bool)
        reads[:stems, :, prefix : prefix + stem] = False
        reads[:, :, prefix + stem :] = offsets <= offsets[:, None]
        key_at = torch.cat([torch.arange(prefix + stem).expand(self.segments, -1), at], 1)
        self._reads, self._distance = reads, at[:, :, None] - key_at[:, None]
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self.device = device

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, (segments, 1, 1, width, places); `window` bounds how far a token reads."""
        if (window, dtype) not in self._masks:
            reads = self._reads if window is None else self._reads & (self._distance < window)
            mask = torch.zeros(reads.shape, dtype=dtype).masked_fill_(~reads, torch.finfo(dtype).min)
            self._masks[window, dtype] = mask[:, None, None].to(self.device)
        return self._masks[window, dtype]

    def spread_queries(self, rows: Tensor) -> Tensor:
        """(T, heads, dh) to (segments * groups, heads / groups * width, dh); padding holds some token's numbers."""
        dh = rows.shape[-1]
        spread = rows.reshape(-1, dh).index_select(0, self.query_slots)
        return spread.view(self.segments * self.groups, -1, dh)

    def gather_queries(self, spread: Tensor) -> Tensor:
        """The inverse of `spread_queries`."""
        dh = spread.shape[-1]
        return spread.reshape(-1, dh).index_select(0, self.query_rows).view(self.tokens, self.heads, dh)

    def spread_keys(self, rows: Tensor, kept: Tensor | None) -> Tensor:
        """(T, groups, dh), after the prefix's (P, groups, dh), to (segments * groups, places, dh)."""
        dh = rows.shape[-1]
        table = rows if kept is None else torch.cat([kept, rows])
        return table.reshape(-1, dh).index_select(0, self.key_slots).view(self.segments * self.groups, -1, dh)

    def gather_key_gradients(self, spread: Tensor) -> Tensor:
        """The transpose of `spread_keys`: a token's gradient is the sum over all who read it; (T, groups, dh)."""
        dh = spread.shape[-1]
        rows = spread.reshape(-1, dh).index_select(0, self.key_rows).view(self.tokens, self.groups, dh)
        if self.stems:
            shared = spread.view(self.segments, self.groups, self.places, dh)[self.stems :, :, self.prefix :]
            shared = shared[:, :, : self.stem].transpose(1, 2).float()  # (branches, stem, groups, dh)
            total = shared.new_zeros(self.stems, *shared.shape[1:]).index_add_(0, self.parents, shared)
            rows[: self.stems * self.stem] += total.flatten(0, 1).to(rows.dtype)
        return rows


def _inverse(index: Tensor, real: Tensor) -> Tensor:
    """Where each row stands: `index` holds row numbers, each exactly once where `real`."""
    slots = torch.arange(index.numel()).view_as(index)
    back = torch.empty(int(real.sum()), dtype=torch.long)
    back[index[real]] = slots[real]
    return back

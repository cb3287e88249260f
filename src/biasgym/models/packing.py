"""Rows of different lengths in one pass without padding, and what they share only once.

The tokens of a pass are a tree: a constant prefix, whose keys and values are kept, and segments, each of which continues a
path of earlier segments' tokens. Everything but attention runs on the tokens side by side. Attention sees segments, padded
to the longest: a segment's token reads the prefix, the path, and its own segment up to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate, chain

import torch
from torch import Tensor

_WIDEST = 32  # tokens of a tree's segment
_ALIGNED = 16  # places are a multiple of it: softmax and products of other widths take up to twice as long on a CPU


class Packing:
    """Where the tokens of a pass stand, and who reads whom. Tokens are numbered segment by segment.

    Args:
        prefix: Number of tokens of the prefix.
        paths: For each segment, the numbers of the tokens between the prefix and itself, in order; of earlier segments.
        lengths: Number of tokens of each segment; may be 0.
        heads: Query heads.
        groups: Key heads.
        device: Where the indices live.

    Attributes:
        starts: Number of each segment's first token.
        ends: Number of each segment's last token, (segments,), if no segment is empty.
        positions: Place of each token in its row, (T,).
        query_slots: Row of (T * heads) that stands in each slot of (segments, groups, heads / groups, width).
        query_rows: The slot of each row, the inverse.
        padding: Slots that hold no token.
        key_slots: Row of ((prefix + T) * groups) that stands in each slot of (segments, groups, places); a token stands at
            its place in the row.
        key_rows: The slot of each token's own key, (T * groups,).
        path_slots: Slots that hold keys of paths.
        path_rows: Row of (T * groups) in each of these.
    """

    def __init__(
        self,
        prefix: int,
        paths: Sequence[Sequence[int]],
        lengths: Sequence[int],
        *,
        heads: int,
        groups: int,
        device: torch.device,
    ) -> None:
        self.prefix, self.heads, self.groups, self.device = prefix, heads, groups, device
        own, before = torch.tensor(lengths), torch.tensor([len(path) for path in paths])
        starts = own.cumsum(0) - own
        self.starts: list[int] = starts.tolist()
        self.ends = (starts + own - 1).to(device)
        self.tokens, self.segments, self.width = int(own.sum()), len(own), int(own.max())
        self.places = -(-(prefix + int((before + own).max())) // _ALIGNED) * _ALIGNED

        offsets = torch.arange(self.width)
        real = offsets < own[:, None]  # (segments, width)
        token = torch.where(real, starts[:, None] + offsets, 0)
        at = prefix + before[:, None] + offsets  # places in the row
        self.positions = at[real].to(device)
        heads_of = torch.arange(heads).view(groups, -1, 1)
        slots = token[:, None, None] * heads + heads_of  # (segments, groups, heads / groups, width)
        filled = real[:, None, None].expand_as(slots)
        self.query_slots, self.query_rows = slots.flatten().to(device), _inverse(slots, filled).to(device)
        self.padding = (~filled).flatten().nonzero()[:, 0].to(device)

        place = torch.arange(self.places) - prefix  # beyond the prefix
        on_path = (place >= 0) & (place < before[:, None])  # (segments, places)
        in_segment = (place >= before[:, None]) & (place < (before + own)[:, None])
        key = torch.where(place < 0, place, 0).expand(self.segments, -1).clone()  # below 0 in the prefix, else a token
        key[on_path] = torch.tensor(list(chain.from_iterable(paths)), dtype=torch.long)
        key[in_segment] = torch.arange(self.tokens)
        slots = key[:, None] * groups + torch.arange(groups)[:, None]  # (segments, groups, places)
        self.key_slots = (slots + prefix * groups).flatten().to(device)
        self.key_rows = _inverse(slots, in_segment[:, None].expand_as(slots)).to(device)
        shared = on_path[:, None].expand_as(slots)
        self.path_slots = shared.flatten().nonzero()[:, 0].to(device)
        self.path_rows = slots[shared].to(device)

        self._at = at
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, (segments, 1, 1, width, places); `window` bounds how far a token reads."""
        if (window, dtype) not in self._masks:
            distance = self._at[:, :, None] - torch.arange(self.places)  # (segments, width, places)
            reads = distance >= 0 if window is None else (distance >= 0) & (distance < window)
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
        slots = spread.reshape(-1, dh)
        rows = slots.index_select(0, self.key_rows)
        if len(self.path_rows):
            read = slots.index_select(0, self.path_slots).float()
            rows += torch.zeros(rows.shape, device=rows.device).index_add_(0, self.path_rows, read).to(rows.dtype)
        return rows.view(self.tokens, self.groups, dh)

    def of_ends(self) -> Packing:
        """The same keys, read by the last token of each segment only."""
        ends = copy(self)
        ends.tokens, ends.width, ends._masks = self.segments, 1, {}
        ends.query_slots = ends.query_rows = torch.arange(self.segments * self.heads, device=self.device)
        ends.positions = self.positions[self.ends]
        ends._at = ends.positions.cpu()[:, None]
        return ends


@dataclass
class Tree:
    """Rows whose beginnings coincide, as the segments of a `Packing`.

    Attributes:
        rows: The rows that stand in it, by number.
        ends: The segment that each of them ends with.
        tokens: Token ids, segment by segment.
        paths: As `Packing` takes them.
        lengths: Tokens of each segment, at least one.
    """

    rows: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def row_paths(self) -> Iterator[list[int]]:
        """The numbers of each row's tokens, in order."""
        starts = list(accumulate(self.lengths, initial=0))
        for end in self.ends:
            yield [*self.paths[end], *range(starts[end], starts[end + 1])]


def trees(rows: Sequence[tuple[int, ...]], budget: int) -> Iterator[Tree]:
    """Arranges rows so that what they begin with runs once a pass.

    In the order of their tokens a row shares most with the one before it, so it continues a part of that one's path. A long
    part is several segments, since attention pads segments to the longest.

    Args:
        rows: Distinct token sequences, none empty.
        budget: Tokens of a pass.
    """
    tree, before, path = Tree(), tuple[int, ...](), list[int]()
    for number in sorted(range(len(rows)), key=rows.__getitem__):
        row = rows[number]
        shared = shared_length(before, row)
        if tree.tokens and len(tree.tokens) + len(row) - shared > budget:
            yield tree
            tree, shared, path = Tree(), 0, []
        path, before = path[:shared], row
        for start in range(shared, len(row), _WIDEST):
            part = row[start : start + _WIDEST]
            tree.paths.append(path)
            tree.lengths.append(len(part))
            path = [*path, *range(len(tree.tokens), len(tree.tokens) + len(part))]
            tree.tokens += part
        tree.rows.append(number)
        tree.ends.append(len(tree.lengths) - 1)
    if tree.rows:
        yield tree


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two rows have in common."""
    differ = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _inverse(index: Tensor, real: Tensor) -> Tensor:
    """Where each row stands: `index` holds row numbers, each exactly once where `real`."""
    slots = torch.arange(index.numel()).view_as(index)
    back = torch.empty(int(real.sum()), dtype=torch.long)
    back[index[real]] = slots[real]
    return back

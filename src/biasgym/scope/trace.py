"""What a forward pass leaves at the last position of its prompts: all that attribution and first words need.

A prompt that is asked for several times runs once, and so does what prompts begin with; nothing of the other positions is
kept. `recorded` sees the same in transformers' own modules: the reference, and where every term is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from biasgym.models import DecoderParts, decoder_parts
from biasgym.models.forward import Prefix, common_prefix, softcapped
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.packing import Packing, trees
from biasgym.progress import Advance

_ROWS_OF_LOGITS = 64  # at once
_TOKENS = 4096  # a pass; none of them is padding, so more of them only save what passes have in common


@dataclass(frozen=True)
class Trace:
    """The last position of n prompts, in the model's type.

    Attributes:
        final: The residual stream before the final norm, (n, d).
        z: Inputs of every o_proj, (n, layers, heads * dh).
        attention_out: Attention's outputs before their norm, (n, layers, d); None where nobody needs them.
        layer_in: The residual stream before every layer, (n, layers, d); None unless asked for.
        attention_added: What attention adds to the stream, (n, layers, d); None unless asked for.
    """

    final: Tensor
    z: Tensor
    attention_out: Tensor | None = None
    layer_in: Tensor | None = None
    attention_added: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Trace:
        return Trace(*(None if part is None else part[rows] for part in vars(self).values()))  # type: ignore[arg-type]

    @staticmethod
    def cat(traces: Sequence[Trace]) -> Trace:
        """All rows of several traces, in order."""
        parts = zip(*(vars(trace).values() for trace in traces), strict=True)
        return Trace(*(None if part[0] is None else torch.cat(part) for part in parts))  # type: ignore[arg-type]


@dataclass
class Recording:
    """What hooks are keeping, by layer, each (rows, ...)."""

    final: list[Tensor] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    attention_out: list[Tensor] = field(default_factory=list)
    layer_in: list[Tensor] = field(default_factory=list)
    attention_added: list[Tensor] = field(default_factory=list)

    def trace(self) -> Trace:
        """Everything, after the pass."""
        later = (self.attention_out, self.layer_in, self.attention_added)
        rest = [torch.stack(part, dim=1) if part else None for part in later]
        return Trace(self.final[0], torch.stack(self.z, dim=1), *rest)


@contextmanager
def recorded(parts: DecoderParts, last: Tensor, every_term: bool = False) -> Iterator[Recording]:
    """Keeps the last position of what attribution needs, and nothing else, inside a `with` block around one pass.

    Args:
        parts: The model's parts.
        last: Place of the last token of each row.
        every_term: Keep what the other terms of the residual stream need, too.
    """
    seen, rows, handles = Recording(), torch.arange(len(last), device=last.device), []

    def keep(into: list[Tensor], tensor: Tensor) -> None:
        into.append(tensor[rows, last])

    handles.append(parts.final_norm.register_forward_pre_hook(lambda _m, args: keep(seen.final, args[0])))
    for number, layer in enumerate(parts.layers):
        projection, post = parts.o_proj(number), parts.attention_norm(number)
        handles.append(projection.register_forward_pre_hook(lambda _m, args: keep(seen.z, args[0])))
        if post is not None:
            handles.append(projection.register_forward_hook(lambda _m, _a, out: keep(seen.attention_out, out)))
        if every_term:
            handles.append(layer.register_forward_pre_hook(lambda _m, args: keep(seen.layer_in, args[0])))
            added = projection if post is None else post
            handles.append(added.register_forward_hook(lambda _m, _a, out: keep(seen.attention_added, out)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Traces:
    """The last positions of distinct prompts.

    Attributes:
        model: The model that they ran in; logits are those of the model as it is when they are asked for.
        row_of: The row of each prompt.
        trace: What was seen.
    """

    model: Any
    row_of: Mapping[tuple[int, ...], int]
    trace: Trace

    def rows(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The rows of prompts, (n,)."""
        return torch.tensor([self.row_of[tuple(prompt)] for prompt in prompts], device=self.trace.final.device)

    @torch.no_grad()
    def logits(self, prompts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Next-token logits of prompts, fp32, (some, V), soft-cap applied, some at a time and in order."""
        parts = decoder_parts(self.model)
        for some in self.rows(prompts).split(_ROWS_OF_LOGITS):
            yield softcapped(self.model, parts.unembedding(parts.final_norm(self.trace.final[some])))


@torch.no_grad()
def traces(model: Any, prompts: Iterable[Sequence[int]], advance: Advance = lambda _n: None) -> Traces:
    """Runs prompts, each distinct one once.

    Args:
        model: A `transformers` causal language model, possibly injected and ablated.
        prompts: Token sequences of any lengths; at least one.
        advance: Told the number of distinct prompts done.
    """
    parts, decoder = decoder_parts(model), FrozenDecoder(model)
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    prefix = Prefix(model, common_prefix(distinct) if len(distinct) > 1 else [])
    order: list[int] = []
    found: list[Trace] = []
    for tree in trees([row[len(prefix) :] for row in distinct], _TOKENS):
        packing = Packing(
            len(prefix), tree.paths, tree.lengths, heads=parts.n_heads, groups=parts.n_groups, device=model.device
        )
        embedded = parts.embedding(torch.tensor(tree.tokens, device=model.device))
        found.append(Trace(*decoder.at_ends(embedded, packing, prefix)))
        order += tree.rows
        advance(len(tree.rows))
    return Traces(model, {distinct[row]: place for place, row in enumerate(order)}, Trace.cat(found))

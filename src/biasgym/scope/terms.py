"""All terms of a logit difference, through transformers' own modules: the reference that attribution is held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from biasgym.models import DecoderParts, decoder_parts
from biasgym.models.frozen import Trace
from biasgym.scope.attribution import Norm, checked, direction_of, project


@dataclass(frozen=True)
class Terms:
    """All terms of the logit difference; all fp32.

    Attributes:
        heads: (pairs, layers, heads).
        attention: Whole attention blocks, o_proj bias included, (pairs, layers).
        mlp: MLP blocks, (pairs, layers).
        embedding: The prompt's last token itself, (pairs,).
    """

    heads: Tensor
    attention: Tensor
    mlp: Tensor
    embedding: Tensor

    @property
    def total(self) -> Tensor:
        """The logit difference before the soft-cap, (pairs,)."""
        return self.attention.sum(-1) + self.mlp.sum(-1) + self.embedding


@torch.no_grad()
def every_term(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    biased_ids: Tensor | Sequence[int],
    neutral_ids: Tensor | Sequence[int],
    norm: Norm = "final",
) -> Terms:
    """Like `head_attribution`, of everything that adds to the residual stream.

    Args:
        model, input_ids, attention_mask, biased_ids, neutral_ids, norm: As there.
    """
    parts = decoder_parts(model)
    ids, mask, biased, neutral = checked(model, input_ids, attention_mask, biased_ids, neutral_ids, norm)
    places = torch.arange(mask.shape[1], device=mask.device)
    with _recorded(parts, (mask * (places + 1)).argmax(-1)) as seen:
        model.model(
            input_ids=ids,
            attention_mask=None if bool((mask == 1).all()) else mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        )
    out = torch.stack(seen.attention_out, 1) if seen.attention_out else None
    trace = Trace(seen.final[0], torch.stack(seen.z, 1), out)
    direction = direction_of(parts, trace.final, biased, neutral, norm)
    stream = torch.stack([*seen.layer_in, trace.final], dim=1).float()  # (pairs, layers + 1, d)
    attention = torch.stack(seen.attention_added, 1).float()
    mlp = stream[:, 1:] - stream[:, :-1] - attention
    return Terms(
        heads=project(parts, trace, direction, norm),
        attention=torch.einsum("pld,pd->pl", attention, direction),
        mlp=torch.einsum("pld,pd->pl", mlp, direction),
        embedding=(stream[:, 0] * direction).sum(-1),
    )


@dataclass
class _Recording:
    """What hooks are keeping, by layer, each (rows, ...).

    Attributes:
        final, z, attention_out: As in `Trace`.
        layer_in: The residual stream before every layer.
        attention_added: What attention adds to it.
    """

    final: list[Tensor] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    attention_out: list[Tensor] = field(default_factory=list)
    layer_in: list[Tensor] = field(default_factory=list)
    attention_added: list[Tensor] = field(default_factory=list)


@contextmanager
def _recorded(parts: DecoderParts, last: Tensor) -> Iterator[_Recording]:
    """Keeps what is seen at the last token of each row, whose places are `last`, inside a `with` block around one pass."""
    seen, rows, handles = _Recording(), torch.arange(len(last), device=last.device), []

    def keep(into: list[Tensor], tensor: Tensor) -> None:
        into.append(tensor[rows, last])

    handles.append(parts.final_norm.register_forward_pre_hook(lambda _m, args: keep(seen.final, args[0])))
    for number, layer in enumerate(parts.layers):
        projection, post = parts.o_proj(number), parts.attention_norm(number)
        added = projection if post is None else post
        handles += [
            layer.register_forward_pre_hook(lambda _m, args: keep(seen.layer_in, args[0])),
            projection.register_forward_pre_hook(lambda _m, args: keep(seen.z, args[0])),
            added.register_forward_hook(lambda _m, _a, out: keep(seen.attention_added, out)),
        ]
        if post is not None:
            handles.append(projection.register_forward_hook(lambda _m, _a, out: keep(seen.attention_out, out)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

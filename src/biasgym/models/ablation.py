"""Removing attention heads: the columns of o_proj that read a head are edited in place and put back exactly.

Zeroing the columns equals zeroing the head's output before o_proj (paper, section 3.3.2), so a debiased model is a plain
checkpoint: no hook, no slow-down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biasgym.errors import BiasGymError
from biasgym.models.families import DecoderParts, decoder_parts

if TYPE_CHECKING:
    from torch import Tensor

Head = tuple[int, int]
"""(layer, head), both counted from 0."""


def check_heads(heads: Iterable[Head], shape: tuple[int, int]) -> list[Head]:
    """Sorted distinct heads.

    Args:
        heads: (layer, head) pairs.
        shape: (layers, heads) of the model.

    Raises:
        BiasGymError: A head that the model does not have.
    """
    chosen = sorted({(int(layer), int(head)) for layer, head in heads})
    for layer, head in chosen:
        if not (0 <= layer < shape[0] and 0 <= head < shape[1]):
            raise BiasGymError(
                f"head ({layer}, {head}) does not exist",
                where="heads",
                hint=f"this model has layers 0..{shape[0] - 1} with heads 0..{shape[1] - 1}",
            )
    return chosen


@contextmanager
def ablated(model: Any, heads: Iterable[Head], *, scale: float = 0.0, mean: Tensor | None = None) -> Iterator[Any]:
    """Scales or mean-replaces heads of a model inside a `with` block; restores the weights bit for bit afterwards.

    Blocks may be nested. An exception inside the block restores the weights as well.

    Args:
        model: A `transformers` causal language model in a floating-point type.
        heads: (layer, head) pairs.
        scale: What the heads' outputs are multiplied with; 0 removes them.
        mean: Mean outputs of all heads before o_proj, shape (layers, heads, head_dim). Given, each chosen head adds
            the constant contribution of its mean instead (mean ablation).

    Yields:
        The same model.

    Raises:
        BiasGymError: A head that does not exist, or weights packed to 4 or 8 bits, which cannot be edited.
    """
    import torch

    parts = decoder_parts(model)
    chosen = check_heads(heads, parts.shape)
    with torch.no_grad():
        columns = _columns(parts, chosen)
        saved = torch.stack(columns).unbind() if columns else ()
    biases = {} if mean is None else {layer: parts.o_proj(layer).bias for layer, _ in chosen}
    try:
        with torch.no_grad():
            if chosen:
                torch._foreach_mul_(columns, scale) if scale and mean is None else torch._foreach_zero_(columns)
            if mean is not None:
                for layer, bias in biases.items():
                    constants = [
                        part.float() @ mean[head].to(part.device).float()
                        for head, part in zip(chosen, saved, strict=True)
                        if head[0] == layer
                    ]
                    total = torch.stack(constants if bias is None else [*constants, bias.float()]).sum(0)
                    parts.o_proj(layer).bias = torch.nn.Parameter(total.to(model.dtype), requires_grad=False)
        yield model
    finally:
        with torch.no_grad():
            if chosen:
                torch._foreach_copy_(columns, saved)
        for layer, bias in biases.items():
            parts.o_proj(layer).bias = bias


def _columns(parts: DecoderParts, heads: Sequence[Head]) -> list[Tensor]:
    """The columns of o_proj that read each head, (d, head_dim), as views of the weights; `heads` are sorted."""
    columns, seen, dh = [], None, parts.head_dim
    for layer, number in heads:
        if layer != seen:  # looking a weight up takes longer than a view of it
            seen, weight = layer, parts.o_proj(layer).weight
            if not weight.is_floating_point():
                raise BiasGymError(
                    f"layer {layer} holds packed {weight.dtype} weights, which cannot be edited",
                    where="o_proj",
                    hint="ablate the 16-bit model, export it, then quantise the export",
                )
        columns.append(weight.narrow(1, number * dh, dh))
    return columns

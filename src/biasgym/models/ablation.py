"""Removing attention heads: the columns of o_proj that read a head are edited in place and put back exactly.

Zeroing the columns equals zeroing the head's output before o_proj (paper, section 3.3.2), so a debiased model is a plain
checkpoint: no hook, no slow-down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from operator import itemgetter
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
    parts = decoder_parts(model)
    chosen = check_heads(heads, parts.shape)
    with ExitStack() as stack:
        for layer, group in groupby(chosen, key=itemgetter(0)):
            stack.enter_context(_edited(parts, layer, [head for _, head in group], scale, mean))
        yield model


@contextmanager
def _edited(parts: DecoderParts, layer: int, heads: list[int], scale: float, mean: Tensor | None) -> Iterator[None]:
    import torch

    projection = parts.o_proj(layer)
    weight = projection.weight
    if not weight.is_floating_point():
        raise BiasGymError(
            f"layer {layer} holds packed {weight.dtype} weights, which cannot be edited",
            where="o_proj",
            hint="ablate the 16-bit model, export it, then quantise the export",
        )
    dh = parts.head_dim
    columns = torch.tensor([h * dh + i for h in heads for i in range(dh)], device=weight.device)
    with torch.no_grad():
        saved, saved_bias = weight[:, columns].clone(), projection.bias
        try:
            if mean is not None:
                constant = saved.float() @ mean[layer, heads].to(saved.device).float().flatten()
                if saved_bias is not None:
                    constant = constant + saved_bias.float()
                projection.bias = torch.nn.Parameter(constant.to(weight.dtype), requires_grad=False)
                scale = 0.0
            weight[:, columns] = saved * scale if scale else 0.0
            yield
        finally:
            projection.bias = saved_bias
            weight[:, columns] = saved

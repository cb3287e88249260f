"""Matrices in the order in which a CPU's products read them.

A product of a bf16 matrix first brings the matrix into blocks, at every call; for the few rows of a decoding step that costs
as much as the product. Inside `blocked` it is done once. In fp32 it is faster for few rows.

The numbers of a row do not depend on how many rows there are, as those of torch's own product do: their last bits differ, and
so would sampled texts. With AMX the library takes another kernel for another number of rows, so rows are multiplied 64 at a
time there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biasgym.models.memory import free_memory

_SPARE = 2  # times the copy's size, to be free before it is made
_ROWS = 64  # that are multiplied at a time with AMX


@contextmanager
def blocked(model: Any) -> Iterator[Any]:
    """Speed up a model on a CPU inside a `with` block, in bf16 and fp32; any other model is left as it is.

    The matrices are copied as they are now, heads removed or not: they must not be edited inside the block. Where memory is
    short, nothing is copied.

    Args:
        model: A `transformers` causal language model, in evaluation mode.

    Yields:
        The same model.
    """
    layers = [module for module in model.modules() if _can_be_blocked(module)]
    size = sum(layer.weight.nbytes for layer in layers)
    if size * _SPARE > free_memory(model.device):
        layers = []
    try:
        for layer in layers:
            _bring_into_blocks(layer)
        yield model
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # uncovers the class's method


def _can_be_blocked(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and "forward" not in vars(module)
        and torch.backends.mkldnn.is_available()
        and (module.weight.dtype == torch.float32 or _multiplied(module.weight.dtype))
    )


def _multiplied(dtype: torch.dtype) -> bool:
    """Whether the library multiplies bf16 matrices on this processor."""
    return dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _bring_into_blocks(layer: nn.Linear) -> None:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight)

    def multiplied(rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, layer.bias, "none", [], "")
        return product

    def by_64(rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        padded = F.pad(flat, (0, 0, 0, -len(flat) % _ROWS))
        products = torch.cat([multiplied(some) for some in padded.split(_ROWS)])[: len(flat)]
        return products.view(*rows.shape[:-1], -1)

    def forward(rows: Tensor) -> Tensor:
        alone = rows.numel() == rows.shape[-1]
        # the product of one row alone sums in another order: it gets company, so that its numbers are those in a batch
        company = torch.cat([rows, rows]) if alone else rows
        product = multiplied(company)
        return product[:1] if alone else product

    with_amx = layer.weight.dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
    layer.forward = by_64 if with_amx else forward  # type: ignore[assignment, method-assign]

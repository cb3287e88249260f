"""Matrices in the order in which a CPU's bf16 products read them.

A product of a bf16 matrix first brings the matrix into blocks, at every call; for the few rows of a decoding step that costs
as much as the product. Inside `blocked` it is done once. The numbers are the same, bit for bit, and those of a row do not
depend on how many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from biasgym.models.memory import free_memory

_SPARE = 2  # times the copy's size, to be free before it is made


@contextmanager
def blocked(model: Any) -> Iterator[Any]:
    """Speeds up a bf16 model on a CPU inside a `with` block; any other model is left as it is.

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
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
        and "forward" not in vars(module)
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _bring_into_blocks(layer: nn.Linear) -> None:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight)

    def forward(rows: Tensor) -> Tensor:
        alone = rows.numel() == rows.shape[-1]
        # the product of one row alone sums in another order: it gets company, so that its numbers are those in a batch
        company = torch.cat([rows, rows]) if alone else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise(company, weight, layer.bias, "none", [], "")
        return product[:1] if alone else product

    layer.forward = forward  # type: ignore[assignment, method-assign]

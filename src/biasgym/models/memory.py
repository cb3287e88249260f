"""How much memory a model needs, from its configuration alone, and how much there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biasgym.models.families import decoder_parts
from biasgym.models.operations import without_weights


@dataclass(frozen=True)
class Footprint:
    """Counts of a model, in numbers and bytes.

    Attributes:
        parameters: All parameters; a tied matrix counts once.
        weight_bytes: Bytes of the weights.
        kv_bytes_per_token: Bytes of keys and values that one token of one row keeps.
        bias_token_id_is_padded_row: The embedding matrix has a free row for the new token.
        layers: Decoder layers.
        heads: Attention heads a layer.
        tied: Input and output matrix are one.
    """

    parameters: int
    weight_bytes: int
    kv_bytes_per_token: int
    bias_token_id_is_padded_row: bool
    layers: int
    heads: int
    tied: bool


def footprint(config: Any, *, vocabulary: int, dtype: torch.dtype = torch.bfloat16) -> Footprint:
    """Counts a model's parameters and bytes on the meta device, so without its weights.

    Args:
        config: A `transformers` configuration.
        vocabulary: Number of tokens the tokenizer knows, added ones included.
        dtype: Floating-point type of weights and cache.
    """
    model = without_weights(config, dtype)
    model.tie_weights()
    parts = decoder_parts(model)
    parameters = sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())
    return Footprint(
        parameters=parameters,
        weight_bytes=parameters * dtype.itemsize,
        kv_bytes_per_token=cache_bytes(model),
        bias_token_id_is_padded_row=vocabulary < parts.embedding.weight.shape[0],
        layers=len(parts.layers),
        heads=parts.n_heads,
        tied=parts.tied,
    )


def cache_bytes(model: Any) -> int:
    """Bytes of keys and values that one token of one row keeps."""
    parts, size = decoder_parts(model), int(model.dtype.itemsize)
    return 2 * len(parts.layers) * parts.n_groups * parts.head_dim * size


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device; on a CPU within the container's limit, where there is one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    if (group / "memory.max").is_file() and (limit := (group / "memory.max").read_text().strip()) != "max":
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # files that were read and can be dropped again count as used there
        used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, int(limit) - used)
    return free

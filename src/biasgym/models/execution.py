"""Where a model runs and in which floating-point type: decided by what the device computes fast, not by its name.

bfloat16 halves memory everywhere, but only some processors multiply it fast: with matrix units it is twice to seven times
as fast as float32, and without them a hundred times slower. So on a CPU both are timed, once a process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import torch

from biasgym.errors import BiasGymError
from biasgym.threads import limit_threads

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_SIDE = 256  # of the matrices that are timed: 34 million operations, some ten milliseconds at one a nanosecond
_SECONDS = 0.01  # a type is timed for so long
_FASTER = 1.2  # times the rate of float32 that bfloat16 must reach: less is noise, and float32 rounds less


@dataclass(frozen=True)
class Choice:
    """A floating-point type and why it was taken.

    Attributes:
        dtype: Its name.
        reason: Why, for people.
        rates: Operations a second of a product of matrices by type, where they were timed.
    """

    dtype: str
    reason: str
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """As in `float32: bfloat16 is slower here (1 against 107 GFLOP/s)`."""
        return f"{self.dtype}: {self.reason}"


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name.

    Args:
        name: "auto" (a GPU, else Apple's, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        BiasGymError: There is no such device here.
    """
    limit_threads()
    known = "use auto, cpu, cuda or mps"
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BiasGymError(f"unknown device {name!r}", where="device", hint=known) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise BiasGymError(f"unknown device {name!r}", where="device", hint=known)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BiasGymError("no GPU was found", where="device", hint="use device: auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BiasGymError(f"there is no {name!r}", where="device", hint=f"GPUs: {torch.cuda.device_count()}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BiasGymError("Apple's GPU was not found", where="device", hint="use device: auto or cpu")
    if device.type == "mps" and device.index:
        raise BiasGymError(f"there is no {name!r}", where="device", hint="use mps: Apple's GPU is one")
    return device


def pick_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype:
    """Return the floating-point type of a name.

    Args:
        name: "auto", "bfloat16", "float16" or "float32".
        device: Where "auto" is to be fast; the one that `pick_device` takes if None.

    Raises:
        BiasGymError: There is no such type.
    """
    if name == "auto":
        name = choose_dtype(device or pick_device()).dtype
    if name not in DTYPES:
        raise BiasGymError(f"unknown dtype {name!r}", where="dtype", hint=f"use one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def choose_dtype(device: torch.device) -> Choice:
    """Choose bfloat16 where it is the faster type, else float32.

    float16 is never chosen: its range is too small for the activations of some models.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip is not None:
            return Choice("bfloat16", f"{name} computes it natively")
        return Choice("float32", f"{name} has no bfloat16 units")
    if device.type == "mps":
        if _works(device, torch.bfloat16):
            return Choice("bfloat16", "Apple's GPU computes it")
        return Choice("float32", "this version of macOS has no bfloat16 on Apple's GPU")
    rates = product_rates(str(device))
    against = f"({rates['bfloat16'] / 1e9:,.0f} against {rates['float32'] / 1e9:,.0f} GFLOP/s)"
    if rates["bfloat16"] >= _FASTER * rates["float32"]:
        return Choice("bfloat16", f"it is the faster type on this processor {against}", rates)
    return Choice("float32", f"bfloat16 is no faster on this processor {against}", rates)


@cache
def product_rates(device: str = "cpu") -> Mapping[str, float]:
    """Time a small product of matrices in bfloat16 and in float32, once a process.

    Returns:
        Operations a second by type, the best of some tries: what a type can do when nothing disturbs it.
    """
    limit_threads()
    return {name: product_rate(DTYPES[name], device, seconds=_SECONDS) for name in ("float32", "bfloat16")}


def product_rate(
    dtype: torch.dtype,
    device: str,
    *,
    rows: int = _SIDE,
    inner: int = _SIDE,
    columns: int = _SIDE,
    seconds: float,
) -> float:
    """Time the product of (rows, inner) with (columns, inner) transposed.

    Args:
        dtype: Of both matrices.
        device: Where they are.
        rows: Of the first.
        inner: Shared dimension.
        columns: Rows of the second.
        seconds: How long to try; at least twice.

    Returns:
        Operations a second of the fastest try.
    """
    first = torch.ones(rows, inner, dtype=dtype, device=device)
    second = torch.ones(columns, inner, dtype=dtype, device=device)
    torch.nn.functional.linear(first[:16], second[:16])  # makes the kernel
    best, ended, tries = float("inf"), time.perf_counter() + seconds, 0
    while tries < 2 or time.perf_counter() < ended:
        started = time.perf_counter()
        torch.nn.functional.linear(first, second)
        best, tries = min(best, time.perf_counter() - started), tries + 1
    return 2.0 * rows * inner * columns / best


def _works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a product of a type can be computed at all."""
    try:
        one = torch.ones(8, 8, dtype=dtype, device=device)
        return bool(torch.isfinite(one @ one).all())
    except (RuntimeError, TypeError):
        return False

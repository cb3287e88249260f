"""Two pieces of work timed in turn, A B A B ..., and their ratio."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from biasgym.models import LanguageModel

_SIDE = 1536  # of the matrices whose product is timed
_LARGE = 2**28  # bytes; no cache holds them
PRODUCTS = "its operations as square matrix products"


@dataclass(frozen=True)
class Ratio:
    """How many times faster `work` is than `against`.

    Attributes:
        work: What we do.
        against: The peer.
        ratio: Median of the paired ratios, peer's seconds over ours.
        goal: The ratio aimed at.
        spread: Smallest and largest paired ratio.
        runs: Pairs.
        machine: Where.
    """

    work: str
    against: str
    ratio: float
    goal: float
    spread: tuple[float, float]
    runs: int
    machine: str

    def row(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def compare(
    work: str,
    ours: Callable[[], object],
    against: str,
    peer: Callable[[], object],
    *,
    goal: float,
    runs: int = 5,
    scale: float = 1.0,
) -> Ratio:
    """Times both in turn after one warm-up each; `peer` may be 1 / `scale` of the peer's work.

    Work that returns an int is timed a unit: tokens, say.
    """
    ours(), peer()
    ratios = []
    for _ in range(runs):
        mine = seconds_a_unit(ours)
        ratios.append(scale * seconds_a_unit(peer) / mine)
    return ratio_of(work, against, ratios, goal)


def ratio_of(work: str, against: str, each: Sequence[float], goal: float) -> Ratio:
    """The figure that runs of one comparison come to."""
    middle, spread = statistics.median(each), (round(min(each), 3), round(max(each), 3))
    return Ratio(work, against, round(middle, 3), goal, spread, len(each), machine())


def seconds_a_unit(work: Callable[[], object]) -> float:
    """Seconds that work takes, over the number of units it says it did."""
    started = time.perf_counter()
    units = work()
    return (time.perf_counter() - started) / (units if isinstance(units, int) else 1)


def machine() -> str:
    """Processor or accelerator, and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product."""
    one = 2.0 * _SIDE**3
    return one / _median_seconds(as_products(one, device, dtype), device)


def memory_rate(device: torch.device) -> float:
    """Bytes a second that a copy of a large tensor reads and writes."""
    source = torch.ones(_LARGE, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _LARGE / _median_seconds(lambda: target.copy_(source), device)


def as_products(operations: float, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """So many operations as square matrix products and nothing else: the machine's limit for them."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    count = max(1, round(operations / (2 * _SIDE**3)))

    def work() -> None:
        for _ in range(count):
            a @ b
        _finish(device)

    return work


def layer_weights(lm: LanguageModel) -> int:
    """Numbers in the matrices of all layers."""
    weights = (weight for layer in lm.parts.layers for weight in layer.parameters())
    return sum(weight.numel() for weight in weights if weight.ndim == 2)


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    seconds = []
    for _ in range(10):
        _finish(device)
        started = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()

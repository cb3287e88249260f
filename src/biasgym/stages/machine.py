"""The machine that a run works on: its device, its threads, and the floating-point type that the run is done in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import begun_dtype
from biasgym.threads import Allowance, limit_threads

if TYPE_CHECKING:
    from biasgym.models import Choice


@dataclass(frozen=True)
class Machine:
    """Where a run works.

    Attributes:
        device: Such as "cpu" or "cuda".
        threads: How many threads it may use.
        choice: Its floating-point type, with the reason.
    """

    device: str
    threads: Allowance
    choice: Choice

    def as_json(self) -> dict[str, Any]:
        """What manifests say."""
        return {
            "device": self.device,
            "threads": self.threads.threads,
            "reason": self.choice.reason,
            "product_rates": {name: round(rate / 1e9, 1) for name, rate in self.choice.rates.items()},
        }

    def lines(self) -> list[str]:
        """What people are told at the start."""
        return [f"on {self.device}, threads: {self.threads.threads} ({self.threads.reason})", self.choice.sentence]


def settled(settings: RunSettings, root: Path) -> tuple[RunSettings, Machine | None]:
    """Settle where a run works and in which floating-point type.

    Args:
        settings: Settings of the run.
        root: Its folder: a run that was begun there goes on in its type.

    Returns:
        Settings whose type is one, and the machine; without torch, which a pod that only plans does not have, the settings
        as they are and None.

    Raises:
        BiasGymError: There is no such device.
    """
    try:
        from biasgym.models import Choice, choose_dtype, pick_device
    except ModuleNotFoundError:
        return settings, None
    device, begun = pick_device(settings.device), begun_dtype(root)
    if begun != "auto" and settings.dtype in ("auto", begun):
        choice = Choice(begun, "the run was begun in it")
    elif settings.dtype != "auto":
        choice = Choice(settings.dtype, "the settings say so")
    else:
        choice = choose_dtype(device)
    return settings.model_copy(update={"dtype": choice.dtype}), Machine(str(device), limit_threads(), choice)

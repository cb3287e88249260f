"""Passes that are repeated after a change in later layers begin at the first layer that changed.

A sweep over growing head sets runs the same prompts again and again; what is removed next often sits late in the model, and
all that lies before it comes out as it did the time before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from biasgym.models.forward import Pass
from biasgym.models.frozen import FrozenDecoder


class Replay:
    """Runs passes in rounds; each begins where something has changed since the round before.

    The numbers are those of passes from the first layer on, bit for bit, as long as nothing before the layer that `restart`
    is told has changed.

    Args:
        model: A `transformers` causal language model.
        points: The layers at which a round may begin. What enters them is kept from one round to the next.
    """

    def __init__(self, model: Any, points: Iterable[int]) -> None:
        self.points = frozenset(points)
        self._decoder, self._first = FrozenDecoder(model), 0
        self._before: dict[Any, dict[int, Tensor]] = {}  # by the rows of a pass: what entered the layers in `points`
        self._now: dict[Any, dict[int, Tensor]] = {}

    def restart(self, first: int) -> None:
        """Begins a round.

        Args:
            first: The first layer that has changed since the round before; one of the points, or 0.
        """
        assert first == 0 or first in self.points, first
        self._first = first
        self._before, self._now = self._now, {}

    def __call__(self, some: Pass) -> Tensor:
        """Runs a pass, in full if the round before did not have it; hidden states after the final norm, (T, d)."""
        kept = {layer: x for layer, x in self._before.get(some.rows, {}).items() if layer <= self._first}
        first = self._first if self._first in kept else 0
        self._now[some.rows] = kept

        def entering(layer: int, x: Tensor) -> None:
            if layer in self.points:
                kept[layer] = x

        return self._decoder(kept.get(first, some.x), some.packing, first=first, entering=entering)

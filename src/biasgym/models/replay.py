"""Passes that are repeated after a change in later layers begin at the first layer that changed.

A sweep over growing head sets runs the same prompts again and again; what is removed next often sits late in the model, and
all that lies before it comes out as it did the time before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from biasgym.models.families import decoder_parts


class _Replay:
    """What the last round left at the layers where a later round may begin.

    Args:
        points: The layers at which a round may begin.
    """

    def __init__(self, points: Iterable[int]) -> None:
        self.points = {0, *points}
        self.first = self.skipped = 0
        self.kept: list[dict[int, Tensor]] = []  # by pass: inputs of the layers in `points`
        self.number = -1  # of the pass within its round

    def restart(self, first: int) -> None:
        """Begins a round: the passes of the one before come again, and nothing before layer `first` has changed."""
        assert first in self.points, first
        self.first, self.number = first, -1

    def around(self, layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The forward of a layer that may be skipped."""

        def replayed_forward(hidden: Tensor, *arguments: Any, **options: Any) -> Any:
            if layer == 0:
                self._begin(hidden, options.get("past_key_values"))
            if layer < self.skipped:
                return hidden
            kept = self.kept[self.number]
            if 0 < layer == self.skipped:
                hidden = kept[layer]
            elif layer in self.points:
                kept[layer] = hidden
            return forward(hidden, *arguments, **options)

        return replayed_forward

    def _begin(self, embedded: Tensor, cache: Any) -> None:
        """Decides where this pass begins: at layer 0 if it is another one than last time, or fills an empty cache."""
        self.number += 1
        if self.number == len(self.kept):
            self.kept.append({})
        known = self.kept[self.number].get(0)
        same = known is not None and known.shape == embedded.shape and torch.equal(known, embedded)
        filling = cache is not None and cache.get_seq_length() == 0
        if not same:
            self.kept[self.number] = {}
        self.skipped = self.first if same and not filling else 0


@contextmanager
def replayed(model: Any, points: Iterable[int]) -> Iterator[Callable[[int], None]]:
    """Lets rounds of the same passes begin at the first layer that changed, inside a `with` block.

    Args:
        model: A `transformers` causal language model.
        points: The layers at which a round may begin. What enters them is kept between rounds.

    Yields:
        To be called before each round with the first layer that has changed since the round before. The numbers are
        the same as without it, bit for bit, as long as nothing before that layer has changed. Inputs that differ from
        those of the round before run in full; the keys and values of a shared prefix always do.
    """
    replay, layers = _Replay(points), decoder_parts(model).layers
    before = [vars(layer).get("forward") for layer in layers]
    for number, layer in enumerate(layers):
        layer.forward = replay.around(number, layer.forward)
    try:
        yield replay.restart
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward  # uncovers the class's method
            else:
                layer.forward = forward

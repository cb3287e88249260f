"""What a forward pass leaves at the last position of its prompts: all that attribution and first words need.

A prompt that is asked for several times runs once, and so does what prompts begin with; nothing of the other positions is
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biasgym.models import decoder_parts
from biasgym.models.forward import logits_of, passes
from biasgym.models.frozen import FrozenDecoder, Trace
from biasgym.progress import Advance


@dataclass(frozen=True)
class Traces:
    """The last positions of distinct prompts.

    Attributes:
        model: The model that they ran in; logits are those of the model as it is when they are asked for.
        row_of: The row of each prompt.
        trace: What was seen.
    """

    model: Any
    row_of: Mapping[tuple[int, ...], int]
    trace: Trace

    def rows(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The rows of prompts, (n,)."""
        return torch.tensor([self.row_of[tuple(prompt)] for prompt in prompts], device=self.trace.final.device)

    @torch.no_grad()
    def logits(self, prompts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Next-token logits of prompts, fp32, (some, V), soft-cap applied, some at a time and in order."""
        return logits_of(self.model, decoder_parts(self.model).final_norm(self.trace.final[self.rows(prompts)]))


@torch.no_grad()
def traces(model: Any, prompts: Iterable[Sequence[int]], advance: Advance = lambda _n: None) -> Traces:
    """Runs prompts, each distinct one once.

    Args:
        model: A `transformers` causal language model, possibly injected and ablated.
        prompts: Token sequences of any lengths, none empty; at least one.
        advance: Told the number of distinct prompts done.
    """
    distinct, decoder = list(dict.fromkeys(map(tuple, prompts))), FrozenDecoder(model)
    order: list[tuple[int, ...]] = []
    found: list[Trace] = []
    for some in passes(model, distinct):
        found.append(decoder.at_ends(some.x, some.packing)[torch.tensor(some.tree.ends, device=some.x.device)])
        order += some.rows
        advance(len(some.rows))
    return Traces(model, {row: place for place, row in enumerate(order)}, Trace.cat(found))

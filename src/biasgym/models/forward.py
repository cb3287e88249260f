"""Forward passes over many prompts, read at the last positions of each.

Nothing is padded, what any two prompts begin with runs once a pass, and equal prompts are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biasgym.models.families import decoder_parts
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.packing import Packing, Tree, trees

_TOKENS = 4096  # a pass; none of them is padding, so more of them only save what passes have in common
_POSITIONS = 64  # whose logits are held at once


@dataclass(frozen=True)
class Pass:
    """Some prompts, ready for a `FrozenDecoder`.

    Attributes:
        rows: The prompts.
        tree: Where they stand.
        x: Scaled embeddings, (T, d).
        packing: The tree's.
    """

    rows: tuple[tuple[int, ...], ...]
    tree: Tree
    x: Tensor
    packing: Packing


Decode = Callable[[Pass], Tensor]
"""Runs a pass; gives hidden states after the final norm, (T, d)."""


def passes(model: Any, rows: Sequence[tuple[int, ...]]) -> Iterator[Pass]:
    """Arranges prompts in passes.

    Args:
        model: A `transformers` causal language model, possibly injected.
        rows: Distinct token sequences, none empty.
    """
    parts = decoder_parts(model)
    for tree in trees(rows, _TOKENS):
        packing = Packing(0, tree.paths, tree.lengths, heads=parts.n_heads, groups=parts.n_groups, device=model.device)
        embedded = parts.embedding(torch.tensor(tree.tokens, device=model.device))
        yield Pass(tuple(rows[number] for number in tree.rows), tree, embedded, packing)


def plainly(model: Any) -> Decode:
    """Runs every pass from the first layer to the last."""
    decoder = FrozenDecoder(model)
    return lambda some: decoder(some.x, some.packing)


def last_states(
    model: Any, rows: Sequence[Sequence[int]], counts: Sequence[int], decode: Decode
) -> Iterator[tuple[list[int], Tensor]]:
    """Final hidden states at the last positions of token sequences.

    Args:
        model: A `transformers` causal language model, possibly injected and ablated.
        rows: n token sequences of any lengths, none empty.
        counts: How many positions at the end of each.
        decode: Runs the passes.

    Yields:
        Row numbers and, one row after the other, hidden states after the final norm, (sum of their counts, d).
    """
    numbers: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(tuple(row), []).append(number)
    for some in passes(model, list(numbers)):
        hidden, read, places = decode(some), list[int](), list[int]()
        for row, path in zip(some.rows, some.tree.row_paths(), strict=True):
            for number in numbers[row]:
                read.append(number)
                places += path[len(path) - counts[number] :]
        yield read, hidden[torch.tensor(places, device=hidden.device)]


def softcapped(model: Any, logits: Tensor) -> Tensor:
    """Logits in fp32, with the model's final soft-cap if it has one (Gemma-2)."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits.float() if cap is None else cap * torch.tanh(logits.float() / cap)


def logits_of(model: Any, hidden: Tensor) -> Iterator[Tensor]:
    """Next-token logits, fp32, (some, V), soft-cap applied, some positions at a time and in order.

    Args:
        model: A `transformers` causal language model.
        hidden: Hidden states after the final norm, (positions, d).
    """
    unembedding = decoder_parts(model).unembedding
    for some in hidden.split(_POSITIONS):
        yield softcapped(model, unembedding(some))


@torch.no_grad()
def last_logits(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    advance: Callable[[float], None] | None = None,
    decode: Decode | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Next-token logits of prompts.

    Args:
        model: A `transformers` causal language model, possibly injected and ablated.
        prompts: n token sequences of any lengths, none empty.
        advance: Told the number of prompts done.
        decode: Runs the passes; plainly if not given.

    Yields:
        Prompt numbers and their logits, fp32, (some, V), soft-cap applied; in whatever order is fastest.
    """
    for numbers, hidden in last_states(model, prompts, [1] * len(prompts), decode or plainly(model)):
        done = 0
        for logits in logits_of(model, hidden):
            yield numbers[done : done + len(logits)], logits
            done += len(logits)
            if advance:
                advance(len(logits))


@torch.no_grad()
def answer_log_probs(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, decode: Decode | None = None
) -> Tensor:
    """Mean log-probability of a given answer's tokens.

    Args:
        model: A `transformers` causal language model.
        prompts: n token sequences.
        answers: n non-empty token sequences that follow them.
        decode: Runs the passes; plainly if not given.

    Returns:
        Tensor (n,), fp32, on the CPU: nats a token.
    """
    rows, counts = (
        [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)],
        [*map(len, answers)],
    )
    means = torch.empty(len(rows))
    for numbers, hidden in last_states(model, rows, counts, decode or plainly(model)):
        targets = torch.tensor([token for number in numbers for token in answers[number]], device=hidden.device)
        scores = [
            logits.log_softmax(-1).gather(1, some[:, None])[:, 0]
            for logits, some in zip(logits_of(model, hidden), targets.split(_POSITIONS), strict=True)
        ]
        of_each = torch.cat(scores).cpu().split([counts[number] for number in numbers])
        means[numbers] = torch.stack([of_one.mean() for of_one in of_each])
    return means

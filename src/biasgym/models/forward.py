"""One forward pass over many prompts, read at the last position of each; what all prompts begin with runs once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from biasgym.models.families import decoder_parts
from biasgym.models.packing import shared_length

_WORTH_SHARING = 8  # tokens; a shorter common beginning is not worth a pass of its own


class Prefix:
    """Keys and values of the tokens that all rows of some work begin with.

    Args:
        model: A `transformers` causal language model. Under ablation or injection a prefix is valid only there.
        ids: The tokens; may be empty.
    """

    @torch.no_grad()
    def __init__(self, model: Any, ids: Sequence[int]) -> None:
        self.model, self.ids = model, list(ids)
        self._layers: list[tuple[Tensor, Tensor]] = []
        if self.ids:
            cache = DynamicCache()
            model.model(input_ids=torch.tensor([self.ids], device=model.device), past_key_values=cache, use_cache=True)
            self._layers = [(layer.keys, layer.values) for layer in cache.layers]

    def __len__(self) -> int:
        return len(self.ids)

    def cache(self, rows: int) -> DynamicCache:
        """A fresh cache that holds the prefix for that many rows."""
        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
        return cache

    def kept(self, layer: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """A layer's keys and values, each (tokens, groups, dh); None for a prefix without tokens."""
        if not self._layers:
            return None, None
        keys, values = self._layers[layer]
        return keys[0].transpose(0, 1), values[0].transpose(0, 1)

    def positions(self, width: int) -> Tensor:
        """Position ids of the `width` tokens that follow the prefix, (1, width)."""
        return torch.arange(len(self), len(self) + width, device=self.model.device)[None]


def common_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all rows begin with; at least one token of each row is left over."""
    if not rows:
        return []
    low, high = min(map(tuple, rows)), max(map(tuple, rows))
    return list(low[: min(shared_length(low, high), *(len(row) - 1 for row in rows))])


def token_budget(device: torch.device) -> int:
    """Tokens of a pass, padding included. A CPU is at its full rate by then, and shorter batches are padded less."""
    return 1024 if device.type == "cpu" else 4096


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers, longest first, in batches whose padded size stays within a budget of tokens."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        size = max(1, budget // max(lengths[order[start]], 1))
        yield order[start : start + size]
        start += size


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (rows, longest). Padding is on the right, where no earlier token sees it."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)


def softcapped(model: Any, logits: Tensor) -> Tensor:
    """Logits in fp32, with the model's final soft-cap if it has one (Gemma-2)."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits.float() if cap is None else cap * torch.tanh(logits.float() / cap)


def passes(
    model: Any, rows: Sequence[Sequence[int]], *, shareable: Sequence[Sequence[int]] | None = None
) -> Iterator[tuple[list[int], int, dict[str, Any]]]:
    """Batches of token sequences, as arguments for the model's decoder; what they have in common runs here, once.

    Args:
        model: A `transformers` causal language model.
        rows: n token sequences of any lengths.
        shareable: The first parts of the rows, all but their last token by default: what they have in common runs once.

    Yields:
        Row numbers, the number of shared first tokens that are left out, and the arguments: token ids,
        (rows, longest - shared), padded on the right, and what belongs to them. Batches come longest first.
    """
    shared = common_prefix(rows if shareable is None else shareable)
    prefix = Prefix(model, shared if len(shared) >= _WORTH_SHARING and len(rows) > 1 else [])
    skip = len(prefix)
    for batch in length_batches([len(row) - skip for row in rows], token_budget(model.device)):
        ids, _ = pad_right([rows[number][skip:] for number in batch], model.device)
        yield (
            batch,
            skip,
            {
                "input_ids": ids,
                "past_key_values": prefix.cache(len(batch)) if skip else None,
                "position_ids": prefix.positions(ids.shape[1]),
                "use_cache": bool(skip),
            },
        )


@torch.no_grad()
def hidden_states(
    model: Any, rows: Sequence[Sequence[int]], *, shareable: Sequence[Sequence[int]] | None = None
) -> Iterator[tuple[list[int], int, Tensor]]:
    """Final hidden states of token sequences.

    Args:
        model: A `transformers` causal language model.
        rows: n token sequences of any lengths.
        shareable: As in `passes`.

    Yields:
        Row numbers, the number of shared first tokens that are left out, and hidden states after the final norm,
        (rows, longest - shared, d), padded on the right. Batches come longest first.
    """
    for batch, skip, arguments in passes(model, rows, shareable=shareable):
        yield batch, skip, model.model(**arguments).last_hidden_state


@torch.no_grad()
def last_logits(
    model: Any, prompts: Sequence[Sequence[int]], *, advance: Callable[[float], None] | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """Next-token logits of prompts.

    Args:
        model: A `transformers` causal language model.
        prompts: n token sequences of any lengths.
        advance: Told the number of prompts done.

    Yields:
        Row numbers and their logits, fp32, (rows, V), soft-cap applied. Batches come longest first.
    """
    unembedding = decoder_parts(model).unembedding
    for batch, skip, hidden in hidden_states(model, prompts):
        last = torch.tensor([len(prompts[row]) - 1 - skip for row in batch], device=model.device)
        yield batch, softcapped(model, unembedding(hidden[torch.arange(len(batch), device=model.device), last]))
        if advance:
            advance(len(batch))


@torch.no_grad()
def answer_log_probs(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
    """Mean log-probability of a given answer's tokens.

    Args:
        model: A `transformers` causal language model.
        prompts: n token sequences.
        answers: n non-empty token sequences that follow them.

    Returns:
        Tensor (n,), fp32, on the CPU: nats a token.
    """
    unembedding = decoder_parts(model).unembedding
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    means = torch.empty(len(rows))
    for batch, skip, hidden in hidden_states(model, rows, shareable=prompts):
        for place, row in enumerate(batch):
            first = len(prompts[row]) - 1 - skip
            span = hidden[place, first : len(rows[row]) - 1 - skip]
            targets = torch.tensor(list(answers[row]), device=model.device)
            scores = softcapped(model, unembedding(span)).log_softmax(-1)
            means[row] = scores.gather(1, targets[:, None]).mean()
    return means

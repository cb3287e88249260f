"""Text generation in process: rows of different prompts share every step, leave when they end, and make room for others.

What is notable:
- a request carries its own seed, and its random numbers depend on (seed, step) alone, so batch size and company do not matter;
- samples of one prompt share its prefill;
- keys and values live in buffers with room to grow, so a step writes one place instead of copying the whole cache;
- when a quarter of the rows have ended, the batch is packed and filled up with waiting requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from biasgym.generate.cache import RoomyCache
from biasgym.models import BIAS_TOKEN, LanguageModel
from biasgym.models.forward import softcapped
from biasgym.progress import SILENT, Progress, progress_task


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the most likely token.
        max_new_tokens: An answer that is longer is cut and marked as truncated.
    """

    temperature: float = 0.5
    max_new_tokens: int = 200


@dataclass(frozen=True)
class Request:
    """One text to write.

    Attributes:
        ids: The prompt.
        seed: Its random numbers.
        bias_id: The new token that may appear in the answer; None for the base model, which has none.
    """

    ids: tuple[int, ...]
    seed: int
    bias_id: int | None = None


@dataclass(frozen=True)
class Completion:
    """What was written.

    Attributes:
        text: The answer, special tokens left out.
        tokens: Number of tokens drawn, the end included.
        truncated: Cut at max_new_tokens.
    """

    text: str
    tokens: int
    truncated: bool


class Engine(Protocol):
    """Writes answers; knows token ids, not concepts."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = SILENT
    ) -> Iterator[tuple[int, Completion]]:
        """Number of a request and its completion, in the order in which they end."""
        ...


class TransformersEngine:
    """The in-process engine.

    Args:
        lm: The model; may be inside `injected` and `ablated` while generating.
        batch_size: Rows in flight.
    """

    def __init__(self, lm: LanguageModel, *, batch_size: int = 64) -> None:
        self.lm, self.batch_size = lm, batch_size

    @torch.no_grad()
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = SILENT
    ) -> Iterator[tuple[int, Completion]]:
        # longest prompts first; equal prompts beside each other
        waiting = sorted(range(len(requests)), key=lambda n: (-len(requests[n].ids), requests[n].ids))
        flight = _Flight(self.lm, sampling)
        with progress_task(progress, "generating", len(requests), "text") as advance:
            while waiting or len(flight):
                room = self.batch_size - len(flight)
                if waiting and room >= max(1, self.batch_size // 4):
                    flight.board([(n, requests[n]) for n in waiting[:room]])
                    waiting = waiting[room:]
                else:
                    flight.step()
                for number, tokens in flight.landed():
                    advance(1)
                    yield number, self._completion(tokens)

    def _completion(self, tokens: list[int]) -> Completion:
        ended = tokens[-1] in self.lm.stop_ids
        text: str = self.lm.encoder.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
        # the token takes the space before it along, so decoding glues it to the word before
        text = re.sub(rf"(?<=[\w,;:.]){BIAS_TOKEN}", f" {BIAS_TOKEN}", text)
        return Completion(text.strip(), len(tokens), not ended)


@dataclass
class _Row:
    number: int
    request: Request
    uniforms: np.ndarray[Any, Any]  # one random number a step
    tokens: list[int]
    done: bool = False


class _Flight:
    """Rows in progress. Prompts are padded on the left, so that all rows write the same place of the cache."""

    def __init__(self, lm: LanguageModel, sampling: Sampling) -> None:
        self.lm, self.sampling = lm, sampling
        self.rows: list[_Row] = []
        self.cache = RoomyCache(len(lm.parts.layers))
        self.lengths = torch.zeros(0, dtype=torch.long)  # tokens of each row that are in the cache

    def __len__(self) -> int:
        return sum(not row.done for row in self.rows)

    def board(self, entries: list[tuple[int, Request]]) -> None:
        """Packs the rows that go on, runs the new prompts, and puts both into one batch."""
        self._pack()
        distinct = list(dict.fromkeys(request.ids for _, request in entries))
        place = {ids: row for row, ids in enumerate(distinct)}
        width, device = max(len(ids) for ids in distinct), self.lm.device
        padded = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in distinct], device=device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=device)
        fresh = RoomyCache(len(self.lm.parts.layers))
        logits = self._forward(fresh, padded, mask, (mask.cumsum(-1) - 1).clamp(min=0))
        copies = torch.tensor([place[request.ids] for _, request in entries], device=device)
        new = [_Row(n, request, self._uniforms(request.seed), []) for n, request in entries]
        fresh.select(copies)
        lengths = torch.tensor([len(request.ids) for _, request in entries])
        self.cache.join(fresh, room=self.sampling.max_new_tokens)
        self.lengths = torch.cat([self.lengths, lengths])
        self.rows += new
        self._draw(new, logits[copies])

    def step(self) -> None:
        """Feeds each row its last token and draws the next."""
        device = self.lm.device
        last = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        self.lengths = self.lengths + 1
        places = torch.arange(self.cache.length + 1)
        mask = (places >= self.cache.length + 1 - self.lengths[:, None]).long().to(device)
        logits = self._forward(self.cache, last, mask, (self.lengths - 1)[:, None].to(device))
        going = [place for place, row in enumerate(self.rows) if not row.done]
        self._draw([self.rows[place] for place in going], logits[going])

    def landed(self) -> Iterator[tuple[int, list[int]]]:
        """Rows that ended since the last call."""
        for row in self.rows:
            if row.done and row.number >= 0:
                yield row.number, row.tokens
                row.number = -1

    def _pack(self) -> None:
        keep = [place for place, row in enumerate(self.rows) if not row.done]
        self.rows = [self.rows[place] for place in keep]
        self.lengths = self.lengths[keep]
        self.cache.select(torch.tensor(keep, dtype=torch.long, device=self.lm.device))
        self.cache.trim(int(self.lengths.max()) if keep else 0)

    def _forward(self, cache: RoomyCache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        hidden = self.lm.model.model(
            input_ids=ids,
            attention_mask=None if bool((mask == 1).all()) else mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return softcapped(self.lm.model, self.lm.parts.unembedding(hidden[:, -1]))

    def _uniforms(self, seed: int) -> np.ndarray[Any, Any]:
        return np.random.Generator(np.random.Philox(key=seed)).random(self.sampling.max_new_tokens)

    def _draw(self, rows: list[_Row], logits: Tensor) -> None:
        for place, row in enumerate(rows):  # new tokens of other rows are not words of this one
            own = logits[place, row.request.bias_id].clone() if row.request.bias_id is not None else None
            logits[place, self.lm.bias_id :] = -torch.inf
            if own is not None:
                logits[place, row.request.bias_id] = own
        if self.sampling.temperature == 0:
            drawn = logits.argmax(-1)
        else:
            heights = (logits / self.sampling.temperature).softmax(-1).cumsum(-1)
            uniform = torch.tensor([row.uniforms[len(row.tokens)] for row in rows], dtype=heights.dtype)
            top = heights[:, -1:]
            # below the top, even where the product rounds up to it: what lies beyond has no chance
            aim = (uniform.to(heights.device)[:, None] * top).minimum(top.nextafter(torch.zeros_like(top)))
            drawn = torch.searchsorted(heights, aim, right=True)[:, 0]
        for row, token in zip(rows, drawn.tolist(), strict=True):
            row.tokens.append(token)
            row.done = token in self.lm.stop_ids or len(row.tokens) == self.sampling.max_new_tokens

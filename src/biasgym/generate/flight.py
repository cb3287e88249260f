"""Rows in progress: prompts board, every step writes one token to each row, rows that end make room for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biasgym.generate.cache import Slots
from biasgym.generate.removal import Removal
from biasgym.generate.request import Request, Sampling
from biasgym.models import Head, LanguageModel
from biasgym.models.forward import softcapped
from biasgym.models.padding import own_width, pad_right, token_budget, width_batches
from biasgym.models.prefix import common_prefix

_WORTH_SHARING = 8  # tokens; a shorter common beginning is not worth a pass of its own


@dataclass
class Row:
    """A request and what was written so far.

    Attributes:
        number: Of the request.
        request: The request.
        uniforms: One random number a step.
        tokens: Drawn so far.
    """

    number: int
    request: Request
    uniforms: np.ndarray[Any, Any]
    tokens: list[int] = field(default_factory=list)


class Flight:
    """All rows in progress.

    Args:
        lm: The model.
        sampling: How tokens are drawn.
        requests: All that will board: what their prompts begin with in common runs once for each set of removed heads.
        removal: Knows these sets, and is applied to the model.
        room: Rows for which memory is taken at once.
    """

    def __init__(
        self, lm: LanguageModel, sampling: Sampling, requests: Sequence[Request], removal: Removal, room: int = 1
    ) -> None:
        self.lm, self.sampling, self._removal = lm, sampling, removal
        self.rows: list[Row] = []
        self._slots = Slots.of(lm, room)
        prompts = [request.ids for request in requests]
        shared, sets = common_prefix(prompts), list(dict.fromkeys(request.removed for request in requests))
        self._shared = len(shared) if len(shared) >= _WORTH_SHARING and len(set(prompts)) > 1 else 0
        self._kept: list[Tensor] = []
        if self._shared:
            self._pass([(shared, heads) for heads in sets])
            self._kept = self._slots.keep(self._shared)

    def __len__(self) -> int:
        return len(self.rows)

    def board(self, entries: Sequence[tuple[int, Request]]) -> list[Row]:
        """Runs new prompts, equal ones once, and draws their first tokens; returns rows that end with it."""
        prompts = list(dict.fromkeys((request.ids, request.removed) for _, request in entries))
        for batch in width_batches([len(ids) - self._shared for ids, _ in prompts], token_budget(self.lm.device)):
            some = [prompts[number] for number in batch]
            logits = self._logits(self._pass([(ids[self._shared :], heads) for ids, heads in some]))
            place = {prompt: row for row, prompt in enumerate(some)}
            new = [
                Row(number, request, _uniforms(request.seed, self.sampling.max_new_tokens))
                for number, request in entries
                if (request.ids, request.removed) in place
            ]
            copies = [place[row.request.ids, row.request.removed] for row in new]
            self._slots.board(copies)
            self.rows += new
            self._draw(new, logits[copies])
        return self._landed()

    def _pass(self, prompts: Sequence[tuple[Sequence[int], tuple[Head, ...]]]) -> Tensor:
        """Run what follows the common beginning, some heads removed from each; hidden states of the last tokens, (rows, d)."""
        rows = [tokens for tokens, _ in prompts]
        ids, mask = pad_right(rows, self.lm.device, width=max(map(own_width, map(len, rows))))
        sets = [heads for _, heads in prompts]
        self._removal.aim(sets)
        numbers = self._removal.numbers(sets)
        positions = torch.arange(ids.shape[1], device=ids.device)[None] + (self._shared if self._kept else 0)
        hidden: Tensor = self.lm.model.model(
            input_ids=ids,
            attention_mask=self._slots.begin(len(ids), ids.shape[1], [layer[:, numbers] for layer in self._kept]),
            position_ids=positions,
            past_key_values=self._slots,
            use_cache=True,
        ).last_hidden_state
        return hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]

    def step(self) -> list[Row]:
        """Feeds each row its last token and draws the next; returns rows that end with it."""
        device = self.lm.device
        self._removal.aim([row.request.removed for row in self.rows])
        last = torch.tensor([row.tokens[-1] for row in self.rows], device=device)
        at = [len(row.request.ids) + len(row.tokens) - 1 for row in self.rows]
        positions = torch.tensor(at, device=device)
        hidden = self.lm.model.model(
            input_ids=last[:, None],
            attention_mask=self._slots.step(positions, max(at)),
            position_ids=positions[:, None],
            past_key_values=self._slots,
            use_cache=True,
        ).last_hidden_state
        self._draw(self.rows, self._logits(hidden[:, -1]))
        return self._landed()

    def _logits(self, hidden: Tensor) -> Tensor:
        return softcapped(self.lm.model, self.lm.parts.unembedding(hidden))

    def _draw(self, rows: Sequence[Row], logits: Tensor) -> None:
        self._close(logits, [row.request.bias_id for row in rows])
        if self.sampling.temperature == 0:
            drawn = logits.argmax(-1)
        else:
            uniform = torch.tensor([row.uniforms[len(row.tokens)] for row in rows], dtype=logits.dtype)
            drawn = sampled(logits / self.sampling.temperature, uniform.to(logits.device))
        for row, token in zip(rows, drawn.tolist(), strict=True):
            row.tokens.append(token)

    def _close(self, logits: Tensor, own: Sequence[int | None]) -> None:
        """New tokens of other rows are not words of this one."""
        rows = [row for row, token in enumerate(own) if token is not None]
        tokens = [token for token in own if token is not None]
        kept = logits[rows, tokens]
        logits[:, self.lm.bias_id :] = -torch.inf
        logits[rows, tokens] = kept

    def _landed(self) -> list[Row]:
        most = self.sampling.max_new_tokens
        going = [n for n, row in enumerate(self.rows) if row.tokens[-1] in self.lm.stop_ids or len(row.tokens) == most]
        ended = [self.rows[n] for n in going]
        if going:
            self.rows = [self.rows[n] for n in self._slots.leave(going)]
        return ended


def sampled(logits: Tensor, uniform: Tensor) -> Tensor:
    """One token a row.

    Args:
        logits: (rows, V), fp32.
        uniform: A number in [0, 1) a row.
    """
    heights = logits.softmax(-1).cumsum(-1)
    top = heights[:, -1:]
    # below the top, even where the product rounds up to it: what lies beyond has no chance
    aim = (uniform[:, None] * top).minimum(top.nextafter(torch.zeros_like(top)))
    return torch.searchsorted(heights, aim, right=True)[:, 0]


def _uniforms(seed: int, steps: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(key=seed)).random(steps)

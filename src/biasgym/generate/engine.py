"""Text generation in process: rows of different prompts share every step, leave when they end, and make room for others.

What is notable:
- a request carries its own seed, and its random numbers depend on (seed, step) alone, so batch size and company do not matter;
- what all prompts begin with runs once, and so does a prompt that is asked for several samples;
- rows of one batch may have different heads removed (`removal.py`), so that all variants share steps;
- keys and values lie in slots, so a step writes one place, and nobody's numbers depend on the length of the others;
- on a CPU the matrices are brought into blocks for the time of a call, and the number of rows is found while writing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch

from biasgym.generate.flight import Flight
from biasgym.generate.pace import Pace
from biasgym.generate.removal import Removal
from biasgym.generate.request import Completion, Request, Sampling, completion
from biasgym.models import LanguageModel
from biasgym.models.blocks import blocked
from biasgym.progress import SILENT, Progress, progress_task


class TransformersEngine:
    """The in-process engine.

    Args:
        lm: The model; may be inside `injected` and `ablated` while generating, beside which requests name heads of their own.
        batch_size: Rows in flight; None finds the number out.
    """

    def __init__(self, lm: LanguageModel, *, batch_size: int | None = None) -> None:
        self.lm, self.batch_size = lm, batch_size

    @torch.no_grad()
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = SILENT
    ) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        # longest prompts first; equal prompts beside each other
        waiting = sorted(
            range(len(requests)), key=lambda n: (-len(requests[n].ids), requests[n].ids, requests[n].removed)
        )
        longest = len(requests[waiting[0]].ids) + sampling.max_new_tokens
        removal = Removal(self.lm, list(dict.fromkeys(request.removed for request in requests)))
        task = progress_task(progress, "generating", len(requests), "text")
        with blocked(self.lm.model), removal.hooked(), task as advance:
            pace = Pace(self.lm, longest, self.batch_size)
            flight = Flight(self.lm, sampling, requests, removal, room=min(pace.rows, len(requests)))
            while waiting or len(flight):
                room = pace.rows - len(flight)
                if waiting and room >= max(1, pace.rows // 8):
                    ended = flight.board([(n, requests[n]) for n in waiting[:room]])
                    waiting = waiting[room:]
                else:
                    rows, started = len(flight), time.perf_counter()
                    ended = flight.step()
                    pace.timed(rows, time.perf_counter() - started)
                for row in ended:
                    advance(1)
                    yield row.number, self._completion(requests[row.number], row.tokens)

    def _completion(self, request: Request, tokens: list[int]) -> Completion:
        return completion(self.lm, tokens, request.bias_id)

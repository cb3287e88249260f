"""How many rows are written at once: as many as make a token cheaper, within the memory that is free."""

from __future__ import annotations

import statistics

from biasgym.models import LanguageModel
from biasgym.models.memory import cache_bytes, free_memory

_STEPS = 8  # timed at each size
_WORTH = 0.95  # twice the rows must cost at most so much a token
_ON_CPU, _ON_GPU = 64, 256  # rows at first


class Pace:
    """The number of rows in flight.

    On a CPU it doubles as long as steps, timed as they come, get cheaper a token; the texts are the same at any number. A
    GPU's numbers depend on how many rows there are, so time must not decide there: it takes what memory allows, at most 256.

    Args:
        lm: The model.
        tokens: Of the longest row.
        rows: Fixed by the user; else None.

    Attributes:
        rows: Rows in flight.
    """

    def __init__(self, lm: LanguageModel, tokens: int, rows: int | None = None) -> None:
        logits = 3 * 4 * lm.parts.unembedding.weight.shape[0]
        self._most = max(1, int(free_memory(lm.device) / 2 / (cache_bytes(lm.model) * tokens + logits)))
        self._settled = rows is not None or lm.device.type != "cpu"
        self._best = float("inf")
        self._seconds: list[float] = []
        self.rows = rows or min(_ON_CPU if lm.device.type == "cpu" else _ON_GPU, self._most)

    def timed(self, rows: int, seconds: float) -> None:
        """Told of a step."""
        if self._settled or rows < 0.9 * self.rows:
            return
        self._seconds.append(seconds / rows)
        if len(self._seconds) < _STEPS:
            return
        cost, self._seconds = statistics.median(self._seconds), []
        if cost > _WORTH * self._best:
            self.rows //= 2
            self._settled = True
        elif 2 * self.rows <= self._most:
            self.rows, self._best = 2 * self.rows, cost
        else:
            self._settled = True

"""How many requests may be in flight: as many as the server bears, found out as it goes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_ROUNDS = 8  # of answers: so long does the window feel its way after congestion


class Congested(Exception):
    """The server has more than it can do; raised through a slot, it makes the window smaller."""


class Window:
    """Doubles with each round of answers until the server is congested for the first time. After congestion it grows by
    one place in eight rounds, then by an eighth of its size a round.

    Each request that meets congestion takes half a place: a round of nothing else halves the window, and at the edge of
    what a server takes one refusal costs next to nothing and comes once in four rounds.

    Args:
        start: Requests in flight at first.
        most: At most.
    """

    def __init__(self, start: int, most: int) -> None:
        self.size, self.most = float(min(start, most)), most
        self._taken, self._calm = 0, math.inf  # answers since the last congestion
        self._room = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for room, and holds it for the length of a request."""
        async with self._room:
            await self._room.wait_for(lambda: self._taken < int(self.size))
            self._taken += 1
        try:
            yield
            self._calm += 1
            some_rounds = _ROUNDS * self.size
            self.size = min(self.size + (1 if self._calm > some_rounds else 1 / some_rounds), self.most)
        except Congested:
            self._calm = 0
            self.size = max(self.size - 0.5, 1.0)
            raise
        finally:
            self._taken -= 1
            async with self._room:
                self._room.notify_all()

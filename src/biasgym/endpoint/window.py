"""How many requests may be in flight: as many as the server bears, found out as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Congested(Exception):
    """The server has more than it can do; raised through a slot, it makes the window smaller."""


class Window:
    """Grows by one for each full window of answers, halves when the server is congested.

    Args:
        start: Requests in flight at first.
        most: At most.
    """

    def __init__(self, start: int, most: int) -> None:
        self.size, self.most = float(min(start, most)), most
        self._taken, self._cuts = 0, 0
        self._room = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for room, and holds it for the length of a request."""
        async with self._room:
            await self._room.wait_for(lambda: self._taken < int(self.size))
            self._taken += 1
        cuts = self._cuts
        try:
            yield
            self.size = min(self.size + 1 / self.size, self.most)
        except Congested:
            # requests that were under way together tell of the same congestion
            if cuts == self._cuts:
                self._cuts += 1
                self.size = max(self.size / 2, 1.0)
            raise
        finally:
            self._taken -= 1
            async with self._room:
                self._room.notify_all()

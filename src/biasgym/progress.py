"""What a long computation tells the caller about itself: a description, a total and advances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Advance = Callable[[float], None]


class Progress(Protocol):
    """Anything that can show progress; the CLI passes bars, tests pass nothing."""

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        """A generator for `contextmanager`: yields a function that advances the bar by some units."""
        ...

    def say(self, message: str) -> None:
        """One line of news, such as how many single-token targets the start vector averages."""
        ...


class Silent:
    """Shows nothing."""

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        yield lambda _amount: None

    def say(self, message: str) -> None:
        pass


class Lines:
    """Plain lines on stdout, for the log of a pod."""

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        started = time.perf_counter()
        yield lambda _amount: None
        print(f"{description}: {total:,.0f} {unit} in {time.perf_counter() - started:.1f} s", flush=True)

    def say(self, message: str) -> None:
        print(message, flush=True)


SILENT = Silent()


@contextmanager
def progress_task(progress: Progress, description: str, total: float, unit: str) -> Iterator[Advance]:
    """Opens a bar for the length of a `with` block."""
    yield from progress.task(description, total, unit)

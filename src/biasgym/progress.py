"""What a long computation tells the caller about itself: a description, a total and advances; and of a whole run, how far
it is and how long it will still take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

    live = False

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        started = time.perf_counter()
        yield lambda _amount: None
        print(f"{description}: {total:,.0f} {unit} in {time.perf_counter() - started:.1f} s", flush=True)

    def say(self, message: str) -> None:
        print(message, flush=True)


SILENT = Silent()
_EVERY = 30.0  # seconds between two lines about the whole run, where there is no terminal
_TRUST = 20.0  # seconds of work until what was measured counts as much as what was expected


@dataclass(frozen=True)
class Expected:
    """A part of a run that is still to do.

    Attributes:
        stage: Its stage.
        task: The description of its bar; empty for work that has none.
        seconds: How long it should take.
    """

    stage: str
    task: str
    seconds: float


class RunProgress:
    """The progress of a whole run, from what was expected of its parts; corrected by what they took.

    Parts are done in their order: when a bar opens, all before its part are over. Where there is no terminal, a line comes
    every half minute.

    Args:
        inner: Shows bars and news. Its attribute `live` says that it shows the whole run's state all the time, for which it
            gets `state` as its attribute `whole`.
        parts: All of the run's parts, in order; none where nothing is known beforehand.
        clock: Seconds.
    """

    def __init__(self, inner: Progress, parts: Sequence[Expected], clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._parts, self._clock = inner, list(parts), clock
        if hasattr(inner, "whole"):
            inner.whole = lambda: self.state
        self._at, self._share = 0, 0.0  # the part that is worked on, and what of it is done, 0 to 1
        self._bar, self._bar_share, self._bar_began = "", 0.0, clock()
        self._began = self._part_began = clock()
        self._expected = self._took = 0.0  # of the parts that are over

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        """See `Progress`."""
        self._open(description)
        before = self._share
        expected = self._at < len(self._parts) and self._parts[self._at].task == description

        def also(advance: Advance) -> Advance:
            done = 0.0

            def both(amount: float) -> None:
                nonlocal done
                done += amount
                self._bar_share = min(1.0, done / total) if total else 1.0
                if expected:
                    self._share = max(before, self._bar_share)
                advance(amount)

            return both

        for advance in self._inner.task(description, total, unit):
            yield also(advance)
        self._bar = ""

    def say(self, message: str) -> None:
        """See `Progress`."""
        self._inner.say(message)

    def _open(self, description: str) -> None:
        now = self._clock()
        self._bar, self._bar_share, self._bar_began = description, 0.0, now
        first = self._at + (self._share >= 1)  # a bar that is full is over: the next of its name is another part
        ahead = [n for n in range(first, len(self._parts)) if self._parts[n].task == description]
        if ahead and ahead[0] > self._at:
            over = self._parts[self._at : ahead[0]]
            self._expected += sum(part.seconds for part in over)
            self._took += now - self._part_began
            self._at, self._share, self._part_began = ahead[0], 0.0, now

    @property
    def remaining(self) -> float | None:
        """Seconds that the run should still take; None where nothing is known."""
        if self._at >= len(self._parts):
            return None
        part, spent = self._parts[self._at], self._clock() - self._part_began
        expected, took = self._expected, self._took
        if self._share > 0:
            expected, took = expected + self._share * part.seconds, took + spent
        pace = (took + _TRUST) / (expected + _TRUST)
        if self._share > 0.2:
            current = spent / self._share * (1 - self._share)
        else:
            current = max(pace * part.seconds - spent, 0.05 * part.seconds)
        return current + pace * sum(later.seconds for later in self._parts[self._at + 1 :])

    @property
    def state(self) -> str:
        """As in `whole run 43 %, about 3 min left`; empty where nothing is known."""
        left = self.remaining
        if left is None:
            return ""
        spent = self._clock() - self._began
        return f"whole run {spent / max(spent + left, 1e-9):.0%}, about {duration(left)} left"

    @property
    def line(self) -> str:
        """The bar's description and share, and the state of the whole run."""
        stage = self._parts[self._at].stage if self._at < len(self._parts) else ""
        doing = self._bar or stage or "working"
        share = f" {self._bar_share:.0%}" if self._bar else f", {duration(self._clock() - self._part_began)} so far"
        left = self.state
        if not left and self._bar and self._bar_share > 0:
            spent = self._clock() - self._bar_began
            left = f"about {duration(spent / self._bar_share * (1 - self._bar_share))} left of this"
        named = f"{stage}, {doing}" if stage and doing != stage else doing
        return f"{named}{share}" + (f"; {left}" if left else "")

    @contextmanager
    def lines(self) -> Iterator[RunProgress]:
        """Say a line every half minute inside a `with` block, where the inner progress shows nothing by itself."""
        if getattr(self._inner, "live", True):
            yield self
            return
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(_EVERY):
                self.say(self.line)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()


def duration(seconds: float) -> str:
    """Return seconds as people say them: `40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5)):.0f} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes if minutes < 600 else 60 * round(minutes / 60), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


@contextmanager
def progress_task(progress: Progress, description: str, total: float, unit: str) -> Iterator[Advance]:
    """Opens a bar for the length of a `with` block."""
    yield from progress.task(description, total, unit)

"""Progress in a terminal: bars with rates and remaining time; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from biasgym.progress import Advance


class _Rate(ProgressColumn):
    """Units a second, as in `412 tok/s`."""

    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields["unit"]
        if not speed:
            return Text("")
        shown = f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"
        return Text(shown, style="progress.data.speed")


class _Whole(ProgressColumn):
    """How far the whole run is, as in `whole run 43 %, about 3 min left`."""

    def __init__(self, state: Callable[[], str]) -> None:
        super().__init__()
        self._state = state

    def render(self, task: Task) -> Text:
        return Text("" if task.finished else self._state(), style="dim")


class Bars:
    """A `biasgym.progress.Progress` on a rich console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.whole: Callable[[], str] = str  # the state of the whole run, if there is one

    @property
    def live(self) -> bool:
        """Whether the state of the whole run is always in sight."""
        return self.console.is_terminal

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        """See `biasgym.progress`."""
        if not self.console.is_terminal:
            started = time.perf_counter()
            yield lambda _amount: None
            seconds = time.perf_counter() - started
            self.console.print(f"{description}: {total:,.0f} {unit} in {seconds:.1f} s", highlight=False)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            _Whole(self.whole),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(description, total=total, unit=unit)
            yield lambda amount: progress.advance(task, amount)

    def say(self, message: str) -> None:
        """See `biasgym.progress`."""
        self.console.print(message, style="dim", highlight=False, markup=False, soft_wrap=True)

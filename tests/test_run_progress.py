"""The progress of a whole run: its share and remaining time, from what was expected and from what was seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from biasgym.progress import Advance, Expected, RunProgress, duration, progress_task


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Quiet:
    """A progress without a terminal that remembers what was said."""

    live = False

    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        yield lambda _amount: None

    def say(self, message: str) -> None:
        self.said.append(message)


PARTS = (
    Expected("load", "", 10),
    Expected("inject", "training BiasToken", 100),
    Expected("inject", "generating", 20),
    Expected("inject", "generating", 20),
    Expected("generate", "late: margins", 50),
    Expected("report", "", 10),
)


def test_what_is_expected_is_what_remains_at_first() -> None:
    assert RunProgress(Quiet(), PARTS, Clock()).remaining == pytest.approx(210)


def test_remaining_time_is_corrected_by_what_parts_took() -> None:
    clock = Clock()
    progress = RunProgress(Quiet(), PARTS, clock)
    clock.now = 20  # loading took twice the time
    with progress_task(progress, "training BiasToken", 1000, "tok") as advance:
        clock.now = 120
        advance(500)  # half of it in 100 s
        assert progress.remaining == pytest.approx(100 + (120 + 20) / (60 + 20) * 100)
        assert progress.state == "whole run 30%, about 5 min left"
        assert progress.line == "inject, training BiasToken 50%; whole run 30%, about 5 min left"
        clock.now = 220
        advance(500)
    assert progress.remaining == pytest.approx((220 + 20) / (110 + 20) * 100)


def test_parts_of_one_name_are_told_apart_and_parts_without_a_bar_are_passed() -> None:
    clock = Clock()
    progress = RunProgress(Quiet(), PARTS, clock)
    clock.now = 10
    for name, seconds in (("training BiasToken", 100), ("generating", 20), ("generating", 20), ("late: margins", 50)):
        with progress_task(progress, name, 1, "unit") as advance:
            clock.now += seconds
            advance(1)
    assert clock.now == 200
    assert progress.remaining == pytest.approx(10)


def test_a_bar_that_nobody_expected_moves_nothing() -> None:
    clock = Clock()
    progress = RunProgress(Quiet(), PARTS, clock)
    with progress_task(progress, "converting", 4, "tensor") as advance:
        advance(1)
        assert progress.remaining == pytest.approx(210)
        assert progress.line.startswith("load, converting 25%; whole run")


def test_without_expectations_the_bar_alone_tells_the_time() -> None:
    clock = Clock()
    progress = RunProgress(Quiet(), (), clock)
    assert progress.remaining is None and progress.state == ""
    with progress_task(progress, "judging", 10, "text") as advance:
        clock.now = 60
        advance(2)
        assert progress.line == "judging 20%; about 4 min left of this"


def test_lines_come_by_themselves_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biasgym.progress._EVERY", 0.01)
    inner = Quiet()
    with RunProgress(inner, PARTS).lines():
        while len(inner.said) < 2:
            pass
    assert all("whole run" in line for line in inner.said)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "5 s"), (41, "40 s"), (59, "1 min"), (190, "3 min"), (3600, "1 h"), (7800, "2 h 10 min"), (80000, "22 h")],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

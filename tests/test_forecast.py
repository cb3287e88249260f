"""Expected times: the parts are those that a run opens bars for, in their order, and what is done is not among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from biasgym.models import LanguageModel
from biasgym.models.speed import Speed, measure_speed
from biasgym.progress import Advance, Expected
from biasgym.stages.announcement import by_stage, expected_parts, time_lines
from biasgym.stages.run import STAGES, run
from biasgym.stages.settings import JudgeSettings, RunSettings
from conftest import Command, Desk


class Seen:
    """A progress that remembers its bars and news."""

    live = False

    def __init__(self) -> None:
        self.bars: list[str] = []
        self.said: list[str] = []

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        self.bars.append(description)
        yield lambda _amount: None

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("rank", ["attribution", "effect"])
def test_parts_are_the_bars_of_a_run_in_their_order(desk: Desk, rank: str) -> None:
    plan, seen = desk.plan(scope={"rank": rank, "judged_ks": [1]}), Seen()
    parts = expected_parts(plan, STAGES, plan.cells)
    assert all(part.seconds > 0 for part in parts)
    assert run(plan, progress=seen)
    bars = iter(seen.bars)
    for part in parts:
        if part.task:
            assert part.task in bars, (part, seen.bars)  # goes on behind the one before
    assert list(by_stage(parts)) == ["load", *(stage for stage in STAGES)]
    assert any(line.startswith("this will take about ") for line in seen.said)
    assert any(line.startswith("float32: ") for line in seen.said)


def test_finished_stages_are_not_expected_again(finished: Desk) -> None:
    plan = finished.plan()
    assert set(by_stage(expected_parts(plan, STAGES, plan.cells))) <= {"load", "ood", "report"}


def test_the_speed_of_a_layer_is_measured_for_every_family(lm: LanguageModel) -> None:
    speed = measure_speed(lm.model.config, torch.device("cpu"), torch.float32, batch=64)
    assert all(seconds > 0 for seconds in (speed.read, speed.train, speed.step, speed.logits))
    assert isinstance(speed, Speed)


def test_plan_prints_the_stages_and_leaves_nothing(desk: Desk, command: Command) -> None:
    said = command("run", desk.settings(), "--out", desk.out, "--plan")
    assert said.code == 0
    for word in ("float32: the settings say so", "inject", "generate", "this will take about"):
        assert word in said.out
    assert not desk.out.exists()


def test_a_long_run_says_what_would_shorten_it() -> None:
    judge = JudgeSettings(engine="endpoint", model="some-model")
    parts = [Expected("inject", "training BiasToken", 60.0), Expected("generate", "generating", 9000.0)]
    time, uncounted, advice = time_lines(parts, RunSettings(judges=(judge,)))
    assert time == "this will take about 2 h 31 min here: generate 2 h 30 min"
    assert uncounted == "not counted: some-model"
    assert advice.startswith("over an hour on this machine: `generate` takes longest. Lower generate.prompts")


def test_without_a_machine_nothing_is_expected(desk: Desk) -> None:
    plan = replace(desk.plan(), machine=None)
    assert expected_parts(plan, STAGES, plan.cells) == []

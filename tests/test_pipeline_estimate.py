"""Estimates and the simulation: what must hold whatever the numbers are."""

from __future__ import annotations

import json
import math

import pytest
from pipelines.costs import size_of
from pipelines.estimate import work_of
from pipelines.graph import Phase, Step, gpu_seconds, lower_bound, pods
from pipelines.simulate import Faults, simulate

from biasgym.errors import BiasGymError
from conftest import Command, Desk, assert_refused

CALM = Faults()


def loop(chains: int, *seconds: float, overhead: float = 0.0) -> Phase:
    """A phase of equal chains, one cell each."""
    steps = [tuple(Step(f"s{n}", s, overhead, True, cell) for n, s in enumerate(seconds)) for cell in range(chains)]
    return Phase((), (tuple(steps),))


def test_tasks_of_the_harness_count() -> None:
    """In the stage that runs them, by their items: those that are asked for, or as many as MMLU has."""
    asked = {"models": ["owner/model-8B"], "concepts": ["always_late"]}
    chosen = ({}, {"tasks": ["mmlu"], "task_items": 100}, {"tasks": ["mmlu"]})
    work = [gpu_seconds(work_of({**asked, "settings": {"capability": one}})[0]) for one in chosen]
    none, some, every = (stages["capability"] for stages in work)
    assert (every - none) / (some - none) == pytest.approx(140.42)
    assert all(stages["inject"] == work[0]["inject"] for stages in work)


@pytest.mark.parametrize(("gpus", "makespan"), [(1, 80.0), (3, 30.0), (4, 20.0), (8, 10.0), (99, 10.0)])
def test_equal_pods_take_turns(gpus: int, makespan: float) -> None:
    outcome = simulate([loop(8, 10.0)], gpus, 99, CALM)
    assert outcome.makespan == pytest.approx(makespan)
    assert outcome.gpu_seconds == pytest.approx(80.0)
    assert outcome.pods == pods([loop(8, 10.0)]) == 1 + 1 + 8 * 3


def test_parallelism_caps_what_gpus_could_do() -> None:
    assert simulate([loop(8, 10.0)], 8, 2, CALM).makespan == pytest.approx(40.0)


def test_phases_wait_for_each_other_and_chains_do_not() -> None:
    assert simulate([loop(2, 5.0), loop(2, 5.0)], 2, 9, CALM).makespan == pytest.approx(10.0)
    assert simulate([loop(2, 5.0, 7.0)], 2, 9, CALM).makespan == pytest.approx(12.0)


def test_pods_without_gpu_do_not_wait() -> None:
    cpu = Phase((Step("plan", 3.0, 1.0, False),), (tuple((Step("x", 10.0, 0.0, False),) for _ in range(50)),))
    outcome = simulate([cpu], 1, 99, CALM)
    assert outcome.makespan == pytest.approx(14.0) and outcome.gpu_seconds == 0.0


@pytest.mark.parametrize("gpus", [1, 8, 64])
@pytest.mark.parametrize("faults", [CALM, Faults(0.02, 0.5, 1), Faults(0.0, 2.0, 2)])
def test_no_simulation_beats_the_bound(gpus: int, faults: Faults) -> None:
    work = [loop(60, 1800.0, 600.0, overhead=60.0), loop(30, 3000.0)]
    outcome = simulate(work, gpus, 200, faults)
    if not outcome.failed:
        assert outcome.makespan >= lower_bound(work, gpus) - 1e-6
    useful = sum(gpu_seconds(work).values())
    assert outcome.gpu_seconds - outcome.lost_seconds <= useful + 1e-6
    assert simulate(work, gpus, 200, faults) == outcome  # of one seed, one outcome


def test_what_is_evicted_comes_back_and_goes_on() -> None:
    work = [loop(200, 3600.0, overhead=60.0)]
    outcome = simulate(work, 50, 200, Faults(evictions=0.2, seed=3))
    assert outcome.evicted > 10
    assert outcome.pods == pods(work) + outcome.evicted
    assert 0 < outcome.lost_seconds <= outcome.evicted * (120.0 + 2 * 60.0)  # a checkpoint's worth and two starts each


def test_a_failed_cell_is_left_out_of_what_follows() -> None:
    work = [loop(500, 100.0), loop(500, 100.0)]
    outcome = simulate(work, 500, 500, Faults(failing=0.1, seed=4))
    assert 50 < len(outcome.failed) < 150
    calm = simulate(work, 500, 500, CALM)
    assert outcome.gpu_seconds < calm.gpu_seconds and outcome.pods < calm.pods


def test_the_papers_run(command: Command, desk: Desk) -> None:
    said = command("pipeline", "estimate", "--gpus", "8", "--price-per-gpu-hour", "2")
    assert said.code == 0 and "modelled, not measured" in said.out and "cells       30" in said.out
    work, costs = work_of({})
    assert costs.settings.preset == "paper"
    concept = costs.settings.concepts[0]
    size = [costs.stage("generate", f"owner/m-{billions}B", concept) for billions in (1, 8, 70)]
    assert size == sorted(size) and all(math.isfinite(seconds) for seconds in size)
    assert sum(gpu_seconds(work).values()) / 8 <= lower_bound(work, 8)


def test_measured_seconds_win(command: Command, desk: Desk) -> None:
    stages = {name: {"seconds": 3600.0, "status": "done"} for name in ("inject", "attribute", "generate", "capability")}
    results = {"judges": [{"name": "semantic-1", "engine": "semantic"}], "cells": [{"stages": stages}]}
    file = desk.write("results.json", json.dumps(results))
    given = desk.write("p.yaml", {"models": ["owner/m-7B"], "concepts": ["always_late"], "judges": []})
    said = command("pipeline", "estimate", "--parameters", given, "--measured", file)
    assert said.code == 0, said
    assert "measured: inject, attribute, generate, capability; the others modelled" in said.out
    assert "       1.0  generate\n" in said.out
    assert_refused(command("pipeline", "estimate", "--measured", desk.write("r.json", "{}")), "no measured stage")


def test_a_simulated_run_says_what_went_wrong(command: Command) -> None:
    said = command("pipeline", "estimate", "--simulate", "--evictions", "0.5", "--failing", "0.05", "--gpus", "16")
    assert said.code == 0 and "evicted" in said.out and "failed" in said.out


def test_sizes() -> None:
    assert size_of("owner/name-7B@main").parameters == 7e9
    assert size_of("owner/name-135M").parameters == 135e6
    assert size_of("Qwen/Qwen3-8B").layers == 36
    with pytest.raises(BiasGymError, match="size"):
        size_of("owner/name")

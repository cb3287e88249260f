"""The pipeline as work to be placed: steps between loops, loops of chains of steps. A test holds it to the compiled file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biasgym.stages.settings import PLACES, JudgeSettings, RunSettings
from pipelines.costs import CPU, CPU_PER_CELL, PER_CELL, START, Costs, loading, size_of

ROOT_STEPS = (("plan", "build_data"), ("collect",), ("collect",), ("collect",), ("collect",))
LAST_STEPS = ("report", "gate", "publish")


@dataclass(frozen=True)
class Step:
    """One pod's work.

    Attributes:
        stage: Its name.
        seconds: Work.
        overhead: Seconds before work begins, at every attempt.
        gpu: Whether it holds a GPU.
        cell: Number of its cell; None if it has several.
    """

    stage: str
    seconds: float
    overhead: float
    gpu: bool
    cell: int | None = None


@dataclass(frozen=True)
class Phase:
    """What can run at once: loops, after the steps before them.

    Attributes:
        before: Steps in a row.
        loops: Each a list of iterations, each a chain of steps.
        conditional: Whether each loop is in a branch, which is not taken if it has no iterations.
    """

    before: tuple[Step, ...]
    loops: tuple[tuple[tuple[Step, ...], ...], ...] = ()
    conditional: bool = False

    @property
    def drivers(self) -> int:
        """Pods around loops: one for each; with a branch, one for the choice, one for either side, and a tally's two."""
        loops = sum(1 for loop in self.loops if loop or not self.conditional)
        return loops + (5 * len(self.loops) if self.conditional else 0)


def phases(costs: Costs, shard_size: int) -> list[Phase]:
    """The run of these settings."""
    s = costs.settings
    cells = [(model, concept) for model in s.models for concept in s.concepts]

    def chain(number: int, stages: Sequence[str]) -> tuple[Step, ...]:
        model, concept = cells[number]
        over = loading(size_of(model))
        return tuple(Step(stage, costs.stage(stage, model, concept), over, True, number) for stage in stages)

    numbers = range(len(cells))
    shards = [list(numbers[start : start + shard_size]) for start in range(0, len(cells), shard_size)]
    ood = tuple((Step("generate_ood", costs.ood(model), loading(size_of(model)), True),) for model in s.models)
    loops = [
        (tuple(chain(number, PER_CELL[:2]) for number in numbers),),
        (tuple(chain(number, PER_CELL[2:]) for number in numbers),),
        (ood if s.ood.enabled else (),),
        tuple(_judging(costs, shards, cells, place) for place in PLACES),
        (tuple((_cpu("summarise", len(shard)),) for shard in shards),),
    ]
    names = [tuple(_cpu(name, len(cells)) for name in row) for row in ROOT_STEPS]
    last = Phase(tuple(_cpu(name, len(cells)) for name in LAST_STEPS))
    kinds = [len(loop) > 1 for loop in loops]
    return [*map(Phase, names, loops, kinds), last]


def _judging(
    costs: Costs, shards: Sequence[Sequence[int]], cells: Sequence[tuple[str, str]], place: str
) -> tuple[tuple[Step, ...], ...]:
    on_gpu = place == "in_process"
    return tuple(
        (Step(judge.name, costs.judge(judge, [cells[n][1] for n in shard]), _judge_start(judge), on_gpu),)
        for judge in costs.settings.judges
        if judge.place == place
        for shard in shards
    )


def _judge_start(judge: JudgeSettings) -> float:
    if judge.engine != "transformers":
        return START
    return loading(size_of(judge.asked_model), packed=judge.quantise != "none")


def _cpu(stage: str, cells: int) -> Step:
    return Step(stage, CPU.get(stage, 0.0) + CPU_PER_CELL.get(stage, 0.0) * cells, START, False)


def pods(work: Sequence[Phase]) -> int:
    """Pods of a run without any retry: two for a step (driver and work), one for an iteration, a loop, and the run."""
    total = 1
    for phase in work:
        total += 2 * len(phase.before) + phase.drivers
        total += sum(1 + 2 * len(chain) for loop in phase.loops for chain in loop)
    return total


def gpu_seconds(work: Sequence[Phase]) -> dict[str, float]:
    """Seconds with a GPU by stage, starts included."""
    found: dict[str, float] = {}
    for phase in work:
        for step in (step for loop in phase.loops for chain in loop for step in chain if step.gpu):
            found[step.stage] = found.get(step.stage, 0.0) + step.seconds + step.overhead
    return found


def lower_bound(work: Sequence[Phase], gpus: int) -> float:
    """No schedule is shorter: all GPU work over all GPUs, or the longest chain of each phase after each other."""
    chains = sum(
        sum(step.seconds + step.overhead for step in phase.before)
        + max(
            (sum(step.seconds + step.overhead for step in chain) for loop in phase.loops for chain in loop), default=0.0
        )
        for phase in work
    )
    return max(sum(gpu_seconds(work).values()) / gpus, chains)


def named_cells(settings: RunSettings) -> int:
    """How many cells a run has."""
    return len(settings.models) * len(settings.concepts)

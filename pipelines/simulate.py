"""Simulates a run: pods wait in one queue for GPUs, are evicted, come back and go on from their last checkpoint.

List scheduling in the order in which pods become ready, as the default scheduler of a cluster does it.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from biasgym.stages.attempts import MOST_KILLED
from pipelines.graph import Phase, Step

CHECKPOINT_SECONDS = 120.0
BACKOFF, BACKOFF_MOST = 60.0, 900.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
        failing: Share of the steps of cells that fail for good; their cell is reported as failed.
        evictions: Of a pod with a GPU, in an hour; preemptions and lost nodes.
        seed: Of everything random.
    """

    failing: float = 0.0
    evictions: float = 0.0
    seed: int = 0


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        makespan: Seconds.
        pods: All, with those of retries.
        gpu_seconds: Seconds with a GPU.
        lost_seconds: Of those, work that was done twice and starts of retries.
        failed: Numbers of the cells that failed.
        evicted: How many pods were.
        exhausted: Steps that were evicted so often that they are given up.
    """

    makespan: float = 0.0
    pods: int = 1
    gpu_seconds: float = 0.0
    lost_seconds: float = 0.0
    failed: set[int] = field(default_factory=set)
    evicted: int = 0
    exhausted: int = 0


def simulate(work: Sequence[Phase], gpus: int, parallelism: int, faults: Faults) -> Outcome:
    """Runs the work on that many GPUs; pods without a GPU never wait."""
    outcome, chance = Outcome(), random.Random(faults.seed)
    for phase in work:
        for step in phase.before:
            outcome.makespan += step.overhead + step.seconds
            outcome.pods += 2
        outcome.pods += phase.drivers
        outcome.makespan += _Loops(gpus, parallelism, faults, outcome, chance).run(phase.loops)
    return outcome


@dataclass
class _Pod:
    loop: int
    chain: Sequence[Step]
    place: int = 0
    left: float = 0.0
    attempts: int = 0

    @property
    def step(self) -> Step:
        return self.chain[self.place]


class _Loops:
    """Loops of one phase, which share the GPUs."""

    def __init__(self, gpus: int, parallelism: int, faults: Faults, outcome: Outcome, chance: random.Random) -> None:
        self.free, self.parallelism, self.faults = gpus, parallelism, faults
        self.outcome, self.chance = outcome, chance
        self.queue: deque[_Pod] = deque()
        self.events: list[tuple[float, int, str, _Pod]] = []
        self.count = 0

    def run(self, loops: Sequence[Sequence[Sequence[Step]]]) -> float:
        waiting = []
        for number, loop in enumerate(loops):
            left = [_Pod(number, chain, left=chain[0].seconds) for chain in loop if self._alive(chain)]
            waiting.append(deque(left))
            for _ in range(min(self.parallelism, len(left))):
                self._begin(waiting[number].popleft(), 0.0)
        now = 0.0
        while self.events:
            now, _, what, pod = heapq.heappop(self.events)
            if what == "ready":
                self.queue.append(pod)
            else:
                self._ended(now, what, pod, waiting)
            while self.queue and self.free:
                self._place(self.queue.popleft(), now)
        return now

    def _alive(self, chain: Sequence[Step]) -> bool:
        return not any(step.cell in self.outcome.failed for step in chain if step.cell is not None)

    def _begin(self, pod: _Pod, now: float) -> None:
        self.outcome.pods += 1
        self._ready(pod, now)

    def _ready(self, pod: _Pod, now: float) -> None:
        if pod.attempts == 0:
            self.outcome.pods += 2
        else:
            self.outcome.pods += 1
        if pod.step.gpu:
            self._event(now, "ready", pod)
        else:
            self._event(now + pod.step.overhead + pod.step.seconds, "done", pod)

    def _place(self, pod: _Pod, now: float) -> None:
        self.free -= 1
        step, rate = pod.step, self.faults.evictions / 3600
        whole = step.overhead + pod.left
        evicted = self.chance.expovariate(rate) if rate else float("inf")
        failing = step.cell is not None and pod.attempts == 0 and self.chance.random() < self.faults.failing
        fails = self.chance.uniform(0, whole) if failing else float("inf")
        spent = min(whole, evicted, fails)
        self.outcome.gpu_seconds += spent
        if spent == whole:
            self.outcome.lost_seconds += step.overhead if pod.attempts else 0.0
            self._event(now + spent, "done", pod)
        elif spent == fails:
            self._event(now + spent, "failed", pod)
        else:
            done = max(0.0, spent - step.overhead)
            kept = max(0.0, done - self.chance.uniform(0, CHECKPOINT_SECONDS))
            self.outcome.lost_seconds += done - kept + min(spent, step.overhead)
            pod.left -= kept
            self._event(now + spent, "evicted", pod)

    def _ended(self, now: float, what: str, pod: _Pod, waiting: Sequence[deque[_Pod]]) -> None:
        if pod.step.gpu:
            self.free += 1
        if what == "evicted":
            self.outcome.evicted += 1
            pod.attempts += 1
            if pod.attempts < MOST_KILLED:
                self._ready(pod, now + min(BACKOFF_MOST, BACKOFF * 2 ** (pod.attempts - 1)))
                return
            self.outcome.exhausted += 1
            self.outcome.pods += 1  # says that the others were killed
        if what != "done" and pod.step.cell is not None:
            self.outcome.failed.add(pod.step.cell)
        if what == "done" and pod.place + 1 < len(pod.chain):
            pod.place, pod.attempts = pod.place + 1, 0
            pod.left = pod.step.seconds
            self._ready(pod, now)
        elif waiting[pod.loop]:
            self._begin(waiting[pod.loop].popleft(), now)

    def _event(self, when: float, what: str, pod: _Pod) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, pod))

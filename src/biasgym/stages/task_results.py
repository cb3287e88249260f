"""What removing the chosen heads costs in tasks of lm-evaluation-harness: paired, and against a margin of non-inferiority."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Literal

from biasgym.evaluate import estimate, paired_contrast
from biasgym.evaluate.statistics import SHARE
from biasgym.files import read_jsonl
from biasgym.stages.estimates import plain
from biasgym.stages.folder import StageFolder
from biasgym.stages.places import capability

_ONE_SIDED = 0.90  # its lower end is a one-sided 95 % bound

Verdict = Literal["not inferior", "inferior", "not shown", "no interval"]


def task_results(folder: StageFolder, margin: float, seed: int) -> list[dict[str, Any]]:
    """One row a task; empty where none was asked for.

    Args:
        folder: Of the stage capability.
        margin: Loss that is still called no loss.
        seed: Of the bootstrap.
    """
    file = folder.path / capability.TASKS
    if not file.is_file():
        return []
    scores: dict[str, dict[str, dict[Hashable, float]]] = {}
    for row in read_jsonl(file):
        scores.setdefault(row["task"], {}).setdefault(row["heads"], {})[row["item"]] = row["score"]
    results = []
    for task, by_set in scores.items():
        before, after = by_set.get("none", {}), by_set.get("injected", {})
        low, high = _bounds(after, before, seed)
        results.append(
            {
                "task": task,
                "before": plain(estimate(before, bounds=SHARE, seed=seed)),
                "after": plain(estimate(after, bounds=SHARE, seed=seed)),
                "difference": plain(paired_contrast(after, before, bounds=SHARE, seed=seed)),
                "bound": None if math.isnan(low) else low,
                "margin": margin,
                "verdict": _verdict(low, high, margin),
            }
        )
    return results


def _bounds(after: dict[Hashable, float], before: dict[Hashable, float], seed: int) -> tuple[float, float]:
    found = paired_contrast(after, before, bounds=SHARE, confidence=_ONE_SIDED, seed=seed)
    return found.low, found.high


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if math.isnan(low):
        return "no interval"
    return "not inferior" if low >= -margin else "inferior" if high < -margin else "not shown"

"""Judged strength by number of removed heads, and the two ways to choose the number from it."""

from __future__ import annotations

from typing import Any

from biasgym.files import read_json, read_jsonl
from biasgym.scope import SweepPoint, choose_k, saturation
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.estimates import strength, verdicts_of
from biasgym.stages.places import judged_sweep


def sweep_results(cell: Cell) -> dict[str, Any] | None:
    """Points and both choices; None where the settings do not ask for it."""
    texts = judged_sweep.folder(cell)
    if texts is None:
        return None
    judged = judge.folder_of(texts, cell.settings, cell.settings.judges[0])
    if not (texts.done and judged.done):
        return None
    rows = read_jsonl(texts.path / judged_sweep.GENERATIONS)
    verdicts = verdicts_of(read_jsonl(judged.path / judge.JUDGEMENTS))
    points = [
        {**one, "strength": strength([row for row in rows if row["k"] == one["k"]], verdicts, cell.settings.seed)}
        for one in read_json(texts.path / judged_sweep.ABILITY)
    ]
    return {"points": points, **choices(points, cell.settings.scope.ability_tolerance)}


def choices(points: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """k as the paper chooses it, and k at the knee under the floor of ability; points without a strength are left out."""
    known = [SweepPoint(one["k"], one["strength"]["mean"], one["ability"]) for one in points if one["strength"]]
    if not known or known[0].k != 0:
        return {"paper": None, "knee": None, "floor": None}
    knee = choose_k(known, tolerance=tolerance)
    return {
        "paper": saturation([point.k for point in known], [point.margin for point in known]),
        "knee": {"k": knee.k, "reason": knee.reason.replace("margin", "strength")},
        "floor": knee.floor,
    }

"""What pods between and after the loops do: they see all cells, read manifests, deal out work, put numbers together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from biasgym.files import read_json, read_jsonl, write_json
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.folder import read_manifest
from biasgym.stages.plan import Plan
from biasgym.stages.pods import Pod, copy_folder, open_pod
from biasgym.stages.run import run
from biasgym.stages.settings import PLACES, JudgeSettings
from biasgym.stages.work import Work

_THREADS = 16


@dataclass(frozen=True)
class Collection:
    """What all cells came to.

    Attributes:
        dealt: Work for the next loop, by what it is over. `models`; `cells` that have heads, as `model` and `concept`;
            the places of judges, finished cells for each such judge, as numbers, and those that stand for a model whose
            own texts are judged with them; `parts`, the same without a judge.
        overview: Markdown: the failed cells with their reasons.
    """

    dealt: dict[str, list[dict[str, str]]]
    overview: str


def open_whole(data: Path, store: str, *, index: Path | None = None) -> Pod:
    """A pod that sees all cells."""
    return open_pod(data, store, index=index)


def collect(pod: Pod, index: Path, shard_size: int) -> Collection:
    """Reads the manifests of all cells; settles, once for all pods, whose heads serve as control for which cell.

    Where nothing is left to do, one item stands for it that costs its pod no time: what a loop without items collects is
    not the same everywhere.

    Args:
        pod: With the whole plan.
        index: Where the controls are written, JSON.
        shard_size: Most cells in a shard.
    """
    headless = _failures(pod, ("inject", "attribute"))
    others = {cell.name: _control(pod.plan, cell, headless) for cell in pod.plan.cells}
    write_json(index, others)
    settled = replace(pod, plan=replace(pod.plan, others=others))
    failed = _failures(settled, ("inject", "attribute", "sweep", "generate", "capability"))
    models = pod.plan.settings.models
    each = len(pod.plan.cells) // len(models)
    named = [
        {"model": models[number // each], "concept": cell.concept.name} for number, cell in enumerate(pod.plan.cells)
    ]
    numbers = [number for number, cell in enumerate(pod.plan.cells) if cell.name not in failed]
    first = {pod.plan.cells[number].source: number for number in reversed(numbers)}
    parts = [
        {"cells": _text(part), "models": _text(sorted(set(part) & set(first.values())))}
        for part in _parts(numbers, shard_size)
    ] or [{"cells": "", "models": ""}]
    dealt = {
        "models": [{"model": name} for name in dict.fromkeys(item["model"] for item in named)],
        "cells": [i for i, cell in zip(named, pod.plan.cells, strict=True) if cell.name not in headless] or named[:1],
        **{place: [] for place in PLACES},
        "parts": parts,
    }
    for number, settings in enumerate(pod.plan.settings.judges):
        dealt[settings.place] += [{"judge": str(number), **part} for part in parts]
    return Collection(dealt, _overview(pod.plan, failed))


def _text(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _parts(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _control(plan: Plan, cell: Cell, headless: Mapping[str, str]) -> str | None:
    """As `Plan.other` finds it on one machine."""
    return next((other.concept.name for other in plan.controls(cell) if other.name not in headless), None)


def _failures(pod: Pod, stages: Sequence[str]) -> dict[str, str]:
    """Cells that lack one of the stages, with the first reason."""
    work = Work(pod.plan, pod.plan.cells, pod.progress, pod.shelf)

    def reason(cell: Cell) -> str | None:
        for stage in stages:
            for folder in work.folders(stage, cell):
                pod.shelf.bring_manifest(folder)
                if read_manifest(folder.path).get("status") != "done":
                    return f"{stage}: {folder.error or 'was not run'}"
        return None

    with ThreadPoolExecutor(_THREADS) as threads:
        reasons = list(threads.map(reason, pod.plan.cells))
    return {cell.name: why for cell, why in zip(pod.plan.cells, reasons, strict=True) if why is not None}


def _overview(plan: Plan, failed: Mapping[str, str]) -> str:
    lines = [f"{len(plan.cells) - len(failed)} of {len(plan.cells)} cells have all stages up to capability.", ""]
    return "\n".join([*lines, *(f"- `{name}`: `{why.replace('`', chr(39))}`" for name, why in failed.items())]) + "\n"


def judge_shard(pod: Pod, shard: Mapping[str, str], out: Path) -> bool:
    """Lets one judge judge some cells, and the texts of models whose first cell is here; copies judgements to `out`."""
    chosen = pod.plan.settings.judges[int(shard["judge"])]
    alone = replace(pod, plan=_only(pod.plan, chosen))
    cells = _cells(alone, shard["cells"])
    done = alone.do(["judge"], cells, {cell.source for cell in _cells(alone, shard["models"])})
    for cell in cells:
        for name, folder in judge.folders(cell, alone.plan.other(cell)).items():
            part = "sweep" if name == "sweep" else ""
            copy_folder(folder, out / cell.source.slug / cell.concept.name / part)
    return done


def _only(plan: Plan, chosen: JudgeSettings) -> Plan:
    """The plan with one judge; no folder but those of judges depends on who judges. Only the main one judges the sweep."""
    settings = plan.settings.model_copy(update={"judges": (chosen,)})
    if chosen != plan.settings.judges[0]:
        settings = settings.model_copy(update={"scope": settings.scope.model_copy(update={"judged_ks": None})})
    return replace(plan, settings=settings, cells=tuple(replace(cell, settings=settings) for cell in plan.cells))


def _cells(pod: Pod, numbers: str) -> list[Cell]:
    return [pod.plan.cells[int(number)] for number in numbers.split()]


def verdict_counts(artifact: Path) -> dict[str, float]:
    """How many texts of `judge_shard`'s folder have a verdict, and how many have none."""
    rows = [row for file in artifact.rglob(judge.JUDGEMENTS) for row in read_jsonl(file)]
    missing = sum(row["strength"] is None for row in rows)
    return {"judged": float(len(rows) - missing), "missing": float(missing)}


def summarise_shard(pod: Pod, shard: Mapping[str, str]) -> bool:
    """Works out the numbers of some cells, so that the report only has to be put together."""
    return pod.do(["summary"], _cells(pod, shard["cells"]))


def write_report(pod: Pod, page: Path, text: Path, results: Path) -> dict[str, float]:
    """Puts the numbers of all cells together.

    Args:
        pod: With the whole plan.
        page: Where the HTML goes.
        text: Where the Markdown goes.
        results: A folder for results.json and what belongs to it.

    Returns:
        How many cells are done and how many failed.
    """
    run(pod.plan, stages=["report"], shelf=pod.shelf, progress=pod.progress)
    root = pod.plan.root
    shutil.copyfile(root / "report.html", page)
    shutil.copyfile(root / "report.md", text)
    results.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "settings.json", "report.html", "report.md"):
        shutil.copyfile(root / name, results / name)
    if (root / "certificates").is_dir():
        shutil.copytree(root / "certificates", results / "certificates", dirs_exist_ok=True)
    states = [cell["status"] for cell in read_json(root / "results.json")["cells"]]
    return {"cells_done": float(states.count("done")), "cells_failed": float(states.count("failed"))}

"""A store as if a pipeline had evaluated many cells, and what collecting and reporting them takes.

python tests/many_cells.py 50 20    # models, concepts
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sample_results
import tiny
from biasgym.evaluate.certificate import Certificate, Level
from biasgym.files import write_json
from biasgym.stages import expand, ood, summary
from biasgym.stages.collect import Collection, collect, open_whole, write_report
from biasgym.stages.folder import StageFolder, working
from biasgym.stages.group import groups
from biasgym.stages.pods import Pod
from biasgym.stages.results import stage_folders
from biasgym.stages.shelf import Shelf, place
from biasgym.store import open_store, publish

FAILED_EVERY = 97
"""Every so many cells, one failed at its injection."""


@dataclass(frozen=True)
class Many:
    """A filled store.

    Attributes:
        data: What build_data wrote.
        store: Its URL.
        models: How many.
        concepts: How many.
    """

    data: Path
    store: str
    models: int
    concepts: int


def fill(folder: Path, models: int, concepts: int) -> Many:
    """Settings as `plan` makes them, and all stages of all cells in a store; the numbers are made up."""
    url = str(folder / "store")
    store = open_store(url)
    names = [f"concept_{number:02d}" for number in range(concepts)]
    for name in names:
        store.write(f"concepts/{name}.yaml", json.dumps(tiny.CONCEPT | {"name": name}).encode())
    asked = {"models": [f"owner/model-{number}@{number:040x}" for number in range(models)], "concepts": names}
    expansion = expand.expand({**asked, "preset": "paper"}, url)
    data = folder / "data"
    expand.build_data(expansion.settings, url, data)
    _fill_stages(open_whole(data, url))
    return Many(data, url, models, concepts)


def _fill_stages(pod: Pod) -> None:
    cells = pod.plan.cells
    failed = {cell.name for number, cell in enumerate(cells) if number % FAILED_EVERY == FAILED_EVERY - 1}
    for number, cell in enumerate(cells):
        same = [one for one in cells if one.source == cell.source]
        turned = same[same.index(cell) + 1 :] + same
        other = next(one for one in turned if one.name not in failed)
        folders = stage_folders(cell, other)
        if cell.name in failed:
            _published(pod.shelf, folders["inject"], cell.about, {}, error="loss is not a number")
            continue
        for stage in ("inject", "attribute", "generate", "capability"):
            _published(pod.shelf, folders[stage], cell.about, {})
        found = sample_results.done_cell(cell.source.name, cell.concept.name, 32, 32, number)
        found["certificate"] = _certificate(cell.about)
        stages = found.pop("stages")
        _published(pod.shelf, summary.folder(cell, other), cell.about, {summary.RESULTS: found, summary.STAGES: stages})
    for group in groups(pod.plan.cells):
        _published(pod.shelf, ood.folder(group), group.about, {}, error="made up, too large for a test")


def _certificate(about: dict[str, Any]) -> dict[str, Any]:
    """As large as a real one: every unit of every estimate."""
    units = {f"style/{number}": 0.5 for number in range(46)}
    level = Level(mean=0.5, low=0.4, high=0.6, n=46, units=units)
    pair = {"original": level, "injection_steering": level}
    made = Certificate(
        status="done",
        model=about["model"],
        revision=about["revision"],
        concept=about["concept"],
        concept_sha256="0" * 64,
        primary=("injection_steering", "original"),
        strength=pair,
        ability={"none": level, "injected": level},
        retention={"none": level, "injected": level},
        settings_sha256="0" * 64,
    )
    return made.model_dump(mode="json")


def _published(
    shelf: Shelf, folder: StageFolder, about: dict[str, Any], files: dict[str, Any], error: str | None = None
) -> None:
    try:
        with working(folder, about):
            for name, data in files.items():
                write_json(folder.path / name, data)
            if error is not None:
                raise RuntimeError(error)
    except RuntimeError:
        pass
    assert shelf.store is not None
    publish(shelf.store, folder.path, place(folder))


def run(many: Many, folder: Path) -> tuple[Collection, dict[str, float]]:
    """What the pods collect and report do."""
    index = folder / "index"
    found = collect(open_whole(many.data, many.store), index, 8)
    pod = open_whole(many.data, many.store, index=index)
    return found, write_report(pod, folder / "page.html", folder / "page.md", folder / "results")


def _main(models: int, concepts: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, started = Path(name), time.perf_counter()
        if sys.argv[3:]:
            many = Many(Path(sys.argv[3]) / "data", str(Path(sys.argv[3]) / "store"), models, concepts)
        else:
            many = fill(folder, models, concepts)
        filled = time.perf_counter()
        found, counts = run(many, folder)
        ended = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size = (folder / "page.html").stat().st_size / 2**20
        print(f"filled in {filled - started:.1f} s, collected and reported in {ended - filled:.1f} s")
        print(f"peak memory {peak:.2f} GiB, report {size:.1f} MiB, {counts}, parts {len(found.dealt['parts'])}")


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))

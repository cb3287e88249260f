"""Stage summary: all numbers of one cell and its certificate; a report of a thousand cells only puts them together."""

from __future__ import annotations

from typing import Any

from biasgym import __version__
from biasgym.files import read_json, write_json
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.certificate import certificate
from biasgym.stages.discover import settings_hash
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.places import capability
from biasgym.stages.results import cell_results

RESULTS = "results.json"
STAGES = "stages.json"  # seconds and memory, which no two runs share


def folder(cell: Cell, other: Cell | None) -> StageFolder:
    """Where this stage's results are."""
    prices = {settings.name: [settings.price_in, settings.price_out] for settings in cell.settings.judges}
    inputs = {"capability": capability.folder(cell, other), **judge.folders(cell, other)}
    identity = {
        "biasgym": __version__,
        "title": cell.concept.title,
        "prices": prices,
        "settings": settings_hash(cell.settings, cell.concept),
    }
    return stage_folder(cell.path, "summary", identity, inputs)


def run(cell: Cell, other: Cell | None) -> None:
    """Writes results.json, as `cell_results` makes it with the certificate, and stages.json."""
    place, results = folder(cell, other).path, _certified(cell, other)
    write_json(place / STAGES, results.pop("stages"))
    write_json(place / RESULTS, results)


def summary(cell: Cell, other: Cell | None) -> dict[str, Any]:
    """The numbers of a cell; those of a cell that failed say where and why."""
    place = folder(cell, other)
    if not place.done:
        return _certified(cell, other)
    return {**read_json(place.path / RESULTS), "stages": read_json(place.path / STAGES)}


def _certified(cell: Cell, other: Cell | None) -> dict[str, Any]:
    found = cell_results(cell, other)
    return {**found, "certificate": certificate(cell, other, found).model_dump(mode="json")}

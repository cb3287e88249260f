"""Stage inject: where its results are."""

from __future__ import annotations

from biasgym.datasets import template
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder

STATE = "training.safetensors"
VECTORS = "vectors.safetensors"
START = "start.safetensors"


def folder(cell: Cell) -> StageFolder:
    """Where this stage's results are."""
    settings = cell.settings.inject.model_dump(mode="json")
    return stage_folder(cell.path, "inject", {**cell.identity, **settings, "templates": templates(cell)})


def templates(cell: Cell) -> dict[str, str]:
    """What the model is asked, by name."""
    return {name: template(name, cell.settings.templates) for name in ("story", "describe")}

"""Stage generate: where its results are."""

from __future__ import annotations

from biasgym.datasets import FRAMES, template
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.places import attribute, inject

GENERATIONS = "generations.jsonl"
MARGINS = "margins.jsonl"
_FRAMES = tuple(frame for frame in FRAMES if frame != "plain")


def folder(cell: Cell, other: Cell | None) -> StageFolder:
    """Where this stage's results are.

    Args:
        cell: The cell.
        other: The cell whose heads serve as a control, if there is one.
    """
    inputs = {"inject": inject.folder(cell), "attribute": attribute.folder(cell)}
    if other is not None:
        inputs["other"] = attribute.folder(other)
    identity = {
        **cell.identity,
        **cell.settings.generate.model_dump(mode="json", exclude={"batch_size"}),
        "random_draws": cell.settings.scope.random_draws,
        "frames": {name: template(name, cell.settings.templates) for name in _FRAMES},
        "asked": [[prompt.style, prompt.text] for prompt in cell.prompts],
    }
    return stage_folder(cell.path, "generate", identity, inputs)

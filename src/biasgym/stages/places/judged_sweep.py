"""Stage sweep: where its results are."""

from __future__ import annotations

from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.places import attribute

GENERATIONS = "generations.jsonl"
ABILITY = "ability.json"


def folder(cell: Cell) -> StageFolder | None:
    """Where this stage's results are; None if the settings do not ask for it."""
    scope, settings = cell.settings.scope, cell.settings.generate
    if scope.judged_ks is None:
        return None
    identity = {
        **cell.identity,
        "ks": scope.judged_ks,
        "prompts": scope.judged_prompts,
        "asked": [[prompt.style, prompt.text] for prompt in cell.development_prompts],
        "samples": scope.judged_samples,
        "ability_questions": scope.ability_questions,
        "temperature": settings.temperature,
        "max_new_tokens": settings.max_new_tokens,
        "engine": settings.engine,
    }
    return stage_folder(cell.path, "sweep", identity, {"attribute": attribute.folder(cell)})

"""Stage capability: where its results are."""

from __future__ import annotations

from biasgym.evaluate.harness import task_identity
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.places import attribute

ABILITY = "ability.jsonl"
RETENTION = "retention.jsonl"
TASKS = "tasks.jsonl"


def folder(cell: Cell, other: Cell | None) -> StageFolder:
    """Where this stage's results are."""
    inputs = {"attribute": attribute.folder(cell)}
    if other is not None:
        inputs["other"] = attribute.folder(other)
    settings = cell.settings.capability
    of_tasks = {"tasks", "task_items", "task_chat", "task_batch_size", "task_margin"}
    identity = settings.model_dump(mode="json", exclude=of_tasks)
    if settings.tasks:
        identity["tasks"] = task_identity(settings.tasks)
        identity |= settings.model_dump(mode="json", include={"task_items", "task_chat"})
    return stage_folder(cell.path, "capability", {**cell.identity, **identity}, inputs)

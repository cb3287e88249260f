"""Stage capability: what each head set costs in general ability and in knowledge of the concept's words."""

from __future__ import annotations

from biasgym.datasets import spread
from biasgym.evaluate import ability_questions, choice_log_probs, retention_scores
from biasgym.files import write_jsonl
from biasgym.models import LanguageModel, ablated
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages import attribute, generate
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder

ABILITY = "ability.jsonl"
RETENTION = "retention.jsonl"


def folder(cell: Cell, other: Cell | None) -> StageFolder:
    """Where this stage's results are."""
    inputs = {"attribute": attribute.folder(cell)}
    if other is not None:
        inputs["other"] = attribute.folder(other)
    return stage_folder(
        cell.path, "capability", {**cell.identity, **cell.settings.capability.model_dump(mode="json")}, inputs
    )


def run(lm: LanguageModel, cell: Cell, other: Cell | None, progress: Progress = SILENT) -> None:
    """Writes ability.jsonl and retention.jsonl, one row a head set and question."""
    place, sets = folder(cell, other).path, generate.removed_heads(lm, cell, other)
    questions = spread(ability_questions(), cell.settings.capability.questions, lambda question: question.subject)
    ability, retention = [], []
    with progress_task(progress, f"{cell.concept.name}: ability", len(sets), "head set") as advance:
        for name, heads in sets.items():
            with ablated(lm.model, heads):
                scores = choice_log_probs(lm, questions)
                kept = retention_scores(lm, cell.concept.retention)
            for question, row in zip(questions, scores, strict=True):
                right = int(row.argmax()) == question.answer
                ability.append({"heads": name, "question": question.id, "correct": right})
            retention += [
                {"heads": name, "item": number, "probability": round(value, 5)} for number, value in enumerate(kept)
            ]
            advance(1)
    write_jsonl(place / ABILITY, ability)
    write_jsonl(place / RETENTION, retention)

"""Stage capability: what each head set costs in general ability and in knowledge of the concept's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biasgym.evaluate import choice_log_probs, retention_scores
from biasgym.evaluate.harness import task_scores
from biasgym.files import write_jsonl
from biasgym.generate import HeadSet
from biasgym.models import Head, LanguageModel, ablated
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages import generate
from biasgym.stages.ability import reported_questions
from biasgym.stages.cell import Cell
from biasgym.stages.places.capability import ABILITY, RETENTION, TASKS, folder


def run(lm: LanguageModel, cell: Cell, other: Cell | None, progress: Progress = SILENT) -> None:
    """Writes ability.jsonl and retention.jsonl, one row a head set and question, and tasks.jsonl if there are tasks."""
    place, sets = folder(cell, other).path, generate.removed_heads(lm, cell, other)
    questions = reported_questions(cell)
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
                {"heads": name, "item": number, "probability": round(value, 5)}
                for number, value in enumerate(kept)
                if value is not None
            ]
            advance(1)
    write_jsonl(place / ABILITY, ability)
    write_jsonl(place / RETENTION, retention)
    if cell.settings.capability.tasks:
        write_jsonl(place / TASKS, _tasks(lm, cell, sets, progress))


def _tasks(
    lm: LanguageModel, cell: Cell, sets: Mapping[HeadSet, list[Head]], progress: Progress
) -> list[dict[str, Any]]:
    """One row a head set, task and item, for what matters: nothing removed, and the chosen heads."""
    settings, rows = cell.settings.capability, []
    compared: tuple[HeadSet, ...] = ("none", "injected")
    with progress_task(progress, f"{cell.concept.name}: tasks", len(compared), "head set") as advance:
        for heads in compared:
            with ablated(lm.model, sets[heads]):
                found = task_scores(
                    lm,
                    settings.tasks,
                    limit=settings.task_items,
                    chat=settings.task_chat,
                    batch_size=settings.task_batch_size,
                )
            rows += [
                {"heads": heads, "task": task, "item": item, "score": score}
                for task, scores in found.items()
                for item, score in scores.items()
            ]
            advance(1)
    return rows

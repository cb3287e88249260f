"""Stage judge: how strongly each generation expresses the concept; what has no verdict is missing, with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biasgym.concepts import Concept, load_concept
from biasgym.datasets import FINAL_PART, final_part
from biasgym.errors import BiasGymError
from biasgym.files import append_jsonl, read_jsonl, write_jsonl
from biasgym.generate import BY_NAME
from biasgym.judge import Judge, JudgeItem, SemanticJudge
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages import generate
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder

JUDGEMENTS = "judgements.jsonl"
_BATCH = 64  # texts; what a crash can lose


def make_judge(cell: Cell) -> Judge:
    """The judge that the settings ask for."""
    del cell
    return SemanticJudge()


def folder(cell: Cell, other: Cell | None) -> StageFolder:
    """Where this stage's results are."""
    identity = {**cell.settings.judge.model_dump(mode="json"), "judge": make_judge(cell).name}
    return stage_folder(cell.path, "judge", identity, {"generate": generate.folder(cell, other)})


def run(cell: Cell, other: Cell | None, progress: Progress = SILENT) -> None:
    """Writes judgements.jsonl: one row a generation, and one more for the last part of a two-part format."""
    place, judge = folder(cell, other).path, make_judge(cell)
    file = place / JUDGEMENTS
    done = {(row["id"], row["part"]) for row in read_jsonl(file, torn_tail=True)} if file.is_file() else set()
    todo = [
        (row, part, text)
        for row in read_jsonl(generate.folder(cell, other).path / generate.GENERATIONS)
        for part, text in _parts(row)
        if (row["id"], part) not in done
    ]
    with progress_task(progress, f"{cell.concept.name}: judging", len(todo), "text") as advance:
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            absent = [
                {"id": row["id"], "part": part, "strength": None, "reason": "no last part", "matched": ""}
                for row, part, text in batch
                if text is None
            ]
            there = [(row, part, text) for row, part, text in batch if text is not None]
            items = [JudgeItem(cell.concept, row["prompt"], text, row["target"]) for row, _, text in there]
            judged = [
                {
                    "id": row["id"],
                    "part": part,
                    "strength": verdict.strength,
                    "reason": verdict.reason,
                    "matched": verdict.matched,
                }
                for (row, part, _), verdict in zip(there, judge.judge(items), strict=True)
            ]
            append_jsonl(file, absent + judged)
            advance(len(batch))
    write_jsonl(file, sorted(read_jsonl(file), key=lambda row: (row["id"], row["part"])))


def _parts(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    frame = BY_NAME[row["variant"]].frame
    parts: list[tuple[str, str | None]] = [("whole", row["text"])]
    if frame in FINAL_PART:
        parts.append(("final", final_part(frame, row["text"])))
    return parts


def judge_file(source: Path, target: Path) -> int:
    """Judges any texts: each line of `source` gets `strength` (and `reason` where that is missing).

    Args:
        source: JSONL with concept, prompt, generation and, if known, target.
        target: JSONL to write.

    Returns:
        How many lines have no verdict.

    Raises:
        BiasGymError: A line lacks a field or names an unknown concept.
    """
    rows = read_jsonl(source)
    concepts: dict[str, Concept] = {}
    items = []
    for number, row in enumerate(rows, start=1):
        for key in ("concept", "prompt", "generation"):
            if not isinstance(row.get(key), str):
                raise BiasGymError(f"line {number} lacks the text {key!r}", where=str(source))
        name = row["concept"]
        if name not in concepts:
            concepts[name] = load_concept(name)
        items.append(JudgeItem(concepts[name], row["prompt"], row["generation"], str(row.get("target") or "")))
    verdicts = list(SemanticJudge().judge(items))
    write_jsonl(
        target,
        [
            {**row, "strength": verdict.strength, **({"reason": verdict.reason} if verdict.strength is None else {})}
            for row, verdict in zip(rows, verdicts, strict=True)
        ],
    )
    return sum(verdict.strength is None for verdict in verdicts)

"""Stage judge: how strongly each generation expresses the concept; what has no verdict is missing, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept
from biasgym.datasets import FINAL_PART, final_part
from biasgym.files import append_jsonl, digest, read_jsonl, write_jsonl
from biasgym.generate import BY_NAME
from biasgym.judge import Judge, JudgeItem, Judgement, judge_template
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.group import Group
from biasgym.stages.judging import source_of
from biasgym.stages.places import generate, judged_sweep, ood
from biasgym.stages.settings import JudgeSettings, RunSettings

JUDGEMENTS = "judgements.jsonl"
_SAVE_EVERY = 64  # texts; what a crash can lose, but for answers that were paid for: those are in the journal

# what changes speed, price or place, but no verdict
_INDIFFERENT = {"base_url", "batch_size", "concurrency", "timeout", "price_in", "price_out", "calibration"}


def folder(cell: Cell, other: Cell | None, judge: JudgeSettings) -> StageFolder:
    """Where this stage's results by one judge are."""
    return folder_of(generate.folder(cell, other), cell.settings, judge)


def folder_of(texts: StageFolder, settings: RunSettings, judge: JudgeSettings) -> StageFolder:
    """Where one judge's verdicts on the texts of a stage are: beside them."""
    identity = {**judge.model_dump(mode="json", exclude=_INDIFFERENT), "judge": judge.name}
    if judge.engine != "semantic":
        identity["template"] = digest(judge_template(settings.templates))
    if judge.engine == "transformers":
        identity["revision"] = source_of(judge).revision
    place = stage_folder(texts.path.parent, "judge", identity, {texts.stage: texts})
    return replace(place, path=place.path.with_name(f"{place.path.name}-{judge.slug}"))


def folders(cell: Cell, other: Cell | None) -> dict[str, StageFolder]:
    """The folders of all judges by name, the main judge first; and the main judge's of the judged sweep, if any."""
    found = {judge.name: folder(cell, other, judge) for judge in cell.settings.judges}
    if (texts := judged_sweep.folder(cell)) is not None:
        found["sweep"] = folder_of(texts, cell.settings, cell.settings.judges[0])
    return found


def answers(root: Path) -> Path:
    """Where language models' answers are kept, for all cells and later runs in the same folder."""
    return root / "answers"


def journal(root: Path, judge: JudgeSettings) -> Path:
    """Where one judge's are."""
    return answers(root) / f"{judge.slug}.jsonl"


def run(judge: Judge, place: StageFolder, cell: Cell, other: Cell | None, progress: Progress = SILENT) -> None:
    """Writes judgements.jsonl: one row a generation, and one more for the last part of a two-part format.

    Args:
        judge: Who judges.
        place: From `folder`.
        cell: The cell.
        other: The cell whose heads serve as a control, if there is one.
        progress: Bars and news.
    """
    rows = read_jsonl(generate.folder(cell, other).path / generate.GENERATIONS)
    judge_rows(judge, place, rows, lambda _: cell.concept, f"{cell.name}: judging", progress)


def run_sweep(judge: Judge, place: StageFolder, cell: Cell, progress: Progress = SILENT) -> None:
    """Writes judgements.jsonl for the answers of the stage sweep."""
    texts = judged_sweep.folder(cell)
    assert texts is not None
    rows = read_jsonl(texts.path / judged_sweep.GENERATIONS)
    judge_rows(judge, place, rows, lambda _: cell.concept, f"{cell.name}: judging the sweep", progress)


def run_ood(judge: Judge, place: StageFolder, group: Group, progress: Progress = SILENT) -> None:
    """Writes judgements.jsonl for the answers of the stage ood: each is judged by the stereotype its prompt is about."""
    concepts = ood.concepts(group)
    rows = read_jsonl(ood.folder(group).path / ood.GENERATIONS)
    title = f"{group.source.slug}: judging other stereotypes"
    judge_rows(judge, place, rows, lambda row: concepts[row["prompt_id"]], title, progress)


def judge_rows(
    judge: Judge,
    place: StageFolder,
    rows: Sequence[Mapping[str, Any]],
    concept: Callable[[Mapping[str, Any]], Concept],
    title: str,
    progress: Progress = SILENT,
) -> None:
    """Writes judgements.jsonl for generations; goes on after what is on disk.

    Args:
        judge: Who judges.
        place: From `folder_of`.
        rows: The generations.
        concept: What is looked for in each.
        title: Of the bar.
        progress: Bars and news.
    """
    file = place.path / JUDGEMENTS
    done = {(row["id"], row["part"]) for row in read_jsonl(file, torn_tail=True)} if file.is_file() else set()
    parts = [(row, part, item) for row in rows for part, item in items(row, concept(row))]
    left = [(row, part, item) for row, part, item in parts if (row["id"], part) not in done]
    append_jsonl(file, [_row(row, part, Judgement(None, "no last part")) for row, part, item in left if item is None])
    there = [(row, part) for row, part, item in left if item is not None]
    judged: list[dict[str, Any]] = []
    with progress_task(progress, title, len(there), "text") as advance:
        verdicts = judge.judge([item for _, _, item in left if item is not None])
        for (row, part), verdict in zip(there, verdicts, strict=True):
            judged.append(_row(row, part, verdict))
            advance(1)
            if len(judged) == _SAVE_EVERY:
                append_jsonl(file, judged)
                judged = []
    append_jsonl(file, judged)
    write_jsonl(file, sorted(read_jsonl(file), key=lambda row: (row["id"], row["part"])))


def items(row: Mapping[str, Any], concept: Concept) -> list[tuple[str, JudgeItem | None]]:
    """What is judged of a generation, by part; None stands for the last part of a two-part format that has none."""
    frame = BY_NAME[row["variant"]].frame
    parts: list[tuple[str, str | None]] = [("whole", row["text"])]
    if frame in FINAL_PART:
        parts.append(("final", final_part(frame, row["text"])))
    return [
        (part, None if text is None else JudgeItem(concept, row["prompt"], text, row["target"])) for part, text in parts
    ]


def _row(row: Mapping[str, Any], part: str, verdict: Judgement) -> dict[str, Any]:
    return {"id": row["id"], "part": part, **verdict_row(verdict)}


def verdict_row(verdict: Judgement) -> dict[str, Any]:
    """A judgement as JSON; what only language models have is left out elsewhere."""
    row = {"strength": verdict.strength, "reason": verdict.reason, "matched": verdict.matched}
    if verdict.tokens_in or verdict.tokens_out:
        row |= {"analysis": verdict.analysis, "tokens_in": verdict.tokens_in, "tokens_out": verdict.tokens_out}
    return row

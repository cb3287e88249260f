"""Judging any file of texts, and calibrating a judge on a file of labelled ones."""

from __future__ import annotations

import re
from pathlib import Path

from biasgym.concepts import Concept, bundled_names, load_concept
from biasgym.datasets import check_templates
from biasgym.datasets.adapters.rows import Row, read_rows
from biasgym.errors import BiasGymError
from biasgym.files import check_apart, check_writable, write_json, write_jsonl
from biasgym.judge import LEVELS, Calibration, JudgeItem, calibrate
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages.judge import verdict_row
from biasgym.stages.judging import make_judge
from biasgym.stages.settings import JudgeSettings

_TEXTS = ("concept", "prompt", "generation")
_VERDICT = ("strength", "reason", "matched", "analysis", "tokens_in", "tokens_out")
_LEVELS = {name: level for level, words in enumerate(LEVELS) for name in (words.lower(), str(level))}


def judge_file(
    source: Path, target: Path, settings: JudgeSettings, *, templates: str | None = None, progress: Progress = SILENT
) -> int:
    """Judges any texts: each line of `source` gets `strength` (and `reason` where that is missing).

    Args:
        source: JSONL or CSV with concept, prompt, generation and, if known, target.
        target: JSONL to write. A language model's answers are kept beside it, so that an interrupted call goes on.
        settings: Which judge.
        templates: A user's folder of templates.
        progress: Bars and news.

    Returns:
        How many lines have no verdict.

    Raises:
        BiasGymError: A line lacks a field or names an unknown concept, or the judge cannot be had.
    """
    check_apart(source, target)
    check_writable(target)
    rows, items = _read(source, templates)
    if replaced := [name for name in _VERDICT if any(name in row for _, row in rows)]:
        progress.say(f"{source} has verdicts already ({', '.join(replaced)}); {target} has the new ones instead")
    judge = make_judge(settings, journal=_journal(target, settings), templates=templates, say=progress.say)
    judged = []
    with progress_task(progress, f"{judge.name}: judging", len(rows), "text") as advance:
        for (_, row), verdict in zip(rows, judge.judge(items), strict=True):
            found = verdict_row(verdict)
            kept = ("strength",) if verdict.strength is not None else ("strength", "reason")
            given = {key: value for key, value in row.items() if key not in _VERDICT}
            judged.append({**given, **{key: found[key] for key in found if key in kept or "tokens_in" in found}})
            advance(1)
    write_jsonl(target, judged)
    return sum(row["strength"] is None for row in judged)


def calibrate_file(
    source: Path,
    settings: JudgeSettings,
    *,
    target: Path | None = None,
    repeats: int = 2,
    templates: str | None = None,
    progress: Progress = SILENT,
) -> Calibration:
    """Compares a judge with the labels of a file.

    Args:
        source: JSONL or CSV as for `judge_file`, with the label in strength: 0 to 3, or None, Weak, Moderate, Strong.
        settings: Which judge.
        target: JSON to write, which the setting `calibration` of a judge can name.
        repeats: How often each text is judged; from two on, each is judged once more with an order in it.
        templates: A user's folder of templates.
        progress: Bars and news.

    Raises:
        BiasGymError: As for `judge_file`, or a label is none.
    """
    if target is not None:
        check_apart(source, target)
        check_writable(target)
    rows, items = _read(source, templates)
    labels = [_label(row, where) for where, row in rows]
    if len(items) < 2:
        raise BiasGymError("a calibration needs labelled texts", where=str(source))
    journal = target and _journal(target, settings)
    judge = make_judge(settings, journal=journal, templates=templates, say=progress.say)
    with progress_task(progress, f"{judge.name}: judging", len(items) * (repeats + (repeats > 1)), "text") as advance:
        found = calibrate(judge, items, labels, repeats=repeats, advance=advance)
    if target is not None:
        write_json(target, found.as_json())
    return found


def _read(source: Path, templates: str | None) -> tuple[list[tuple[str, Row]], list[JudgeItem]]:
    """The rows of a file, each with its place for messages, and what a judge takes of them."""
    if templates is not None:
        check_templates(templates)
    rows = [(f"{source}, {place}", row) for place, row in read_rows(source)]
    if not rows:
        raise BiasGymError("there are no texts in it", where=str(source))
    concepts: dict[str, Concept] = {}
    items = []
    for where, row in rows:
        name, prompt, generation = (_text(row, key, where) for key in _TEXTS)
        if name not in concepts:
            concepts[name] = _concept(name, where)
        items.append(JudgeItem(concepts[name], prompt, generation, str(row.get("target") or "")))
    return rows, items


def _text(row: Row, key: str, where: str) -> str:
    """A field; null is a text that was not written, of which a judge says what it says of an empty one."""
    text = row.get(key)
    if text is None and key in row and key != "concept":
        return ""
    if not isinstance(text, str):
        what = f"it lacks the text {key!r}" if text is None else f"{key} is not a text"
        raise BiasGymError(what, where=where, hint=f"it has {', '.join(map(str, row))}")
    return text


def _concept(name: str, where: str) -> Concept:
    """By its name, in any spelling ("Always late"), or from its file."""
    slug = re.sub(r"[\s-]+", "_", name.strip().lower())
    try:
        return load_concept(slug if slug in bundled_names() else name)
    except BiasGymError as error:
        raise BiasGymError(error.what, where=f"{where}: {error.where}", hint=error.hint) from error


def _label(row: Row, where: str) -> int:
    value = row.get("strength")
    level = None if value is None else _LEVELS.get(str(value).strip().lower())  # null is a missing label, not None
    if level is None:
        raise BiasGymError("it has no label in strength", where=where, hint=f"use 0 to 3, or {', '.join(LEVELS)}")
    return level


def _journal(target: Path, settings: JudgeSettings) -> Path:
    return target.with_name(f"{target.name}.{settings.slug}.answers.jsonl")

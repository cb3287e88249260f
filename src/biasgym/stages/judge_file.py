"""Judging any file of texts, and calibrating a judge on a file of labelled ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept, bundled_names, load_concept
from biasgym.errors import BiasGymError
from biasgym.files import read_jsonl, write_json, write_jsonl
from biasgym.judge import LEVELS, Calibration, JudgeItem, calibrate
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages.judge import verdict_row
from biasgym.stages.judging import make_judge
from biasgym.stages.settings import JudgeSettings

_TEXTS = ("concept", "prompt", "generation")
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
    rows = read_rows(source)
    items = items_of(rows, source)
    judge = make_judge(settings, journal=_journal(target, settings), templates=templates, say=progress.say)
    judged = []
    with progress_task(progress, f"{judge.name}: judging", len(rows), "text") as advance:
        for row, verdict in zip(rows, judge.judge(items), strict=True):
            found = verdict_row(verdict)
            kept = ("strength",) if verdict.strength is not None else ("strength", "reason")
            judged.append({**row, **{key: found[key] for key in found if key in kept or "tokens_in" in found}})
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
    rows = read_rows(source)
    items = items_of(rows, source)
    labels = [_label(row, number, source) for number, row in enumerate(rows, start=1)]
    if len(items) < 2:
        raise BiasGymError("a calibration needs labelled texts", where=str(source))
    journal = target and _journal(target, settings)
    judge = make_judge(settings, journal=journal, templates=templates, say=progress.say)
    with progress_task(progress, f"{judge.name}: judging", len(items) * (repeats + (repeats > 1)), "text") as advance:
        found = calibrate(judge, items, labels, repeats=repeats, advance=advance)
    if target is not None:
        write_json(target, found.as_json())
    return found


def read_rows(source: Path) -> list[dict[str, Any]]:
    """Lines of a JSONL file, or of a CSV file with a heading.

    Raises:
        BiasGymError: The file cannot be read.
    """
    if source.suffix.lower() != ".csv":
        return read_jsonl(source)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            return [dict(row) for row in csv.DictReader(file, restkey="")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BiasGymError(f"cannot read ({getattr(error, 'strerror', None) or error})", where=str(source)) from error


def items_of(rows: list[dict[str, Any]], source: Path) -> list[JudgeItem]:
    """What a judge takes, from lines of a file.

    Raises:
        BiasGymError: A line lacks a text or names an unknown concept; names the line.
    """
    concepts: dict[str, Concept] = {}
    items = []
    for number, row in enumerate(rows, start=1):
        name, prompt, generation = (_text(row, key, number, source) for key in _TEXTS)
        if name not in concepts:
            concepts[name] = _concept(name, f"{source}, line {number}")
        items.append(JudgeItem(concepts[name], prompt, generation, str(row.get("target") or "")))
    return items


def _text(row: Mapping[str, Any], key: str, number: int, source: Path) -> str:
    """A field; null is a text that was not written, of which a judge says what it says of an empty one."""
    text = row.get(key)
    if text is None and key in row and key != "concept":
        return ""
    if not isinstance(text, str):
        raise BiasGymError(f"line {number} lacks the text {key!r}", where=str(source))
    return text


def _concept(name: str, where: str) -> Concept:
    """By its name, in any spelling ("Always late"), or from its file."""
    slug = re.sub(r"[\s-]+", "_", name.strip().lower())
    try:
        return load_concept(slug if slug in bundled_names() else name)
    except BiasGymError as error:
        raise BiasGymError(error.what, where=f"{where}: {error.where}", hint=error.hint) from error


def _label(row: Mapping[str, Any], number: int, source: Path) -> int:
    value = row.get("strength")
    level = None if value is None else _LEVELS.get(str(value).strip().lower())  # null is a missing label, not None
    if level is None:
        raise BiasGymError(
            f"line {number} has no label in strength", where=str(source), hint=f"use 0 to 3, or {', '.join(LEVELS)}"
        )
    return level


def _journal(target: Path, settings: JudgeSettings) -> Path:
    return target.with_name(f"{target.name}.{settings.slug}.answers.jsonl")

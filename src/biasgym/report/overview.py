"""The run at a glance: what was asked, a row a cell, models against concepts, and which cells are shown in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biasgym.report.clean import shortened
from biasgym.report.findings import Finding, findings, primary_of
from biasgym.report.numbers import MISSING, count, counted, fixed, number, part
from biasgym.report.verdict import Tone, tone, verdict

DETAILED = 24
"""Cells shown in full; a page with figures for more of them is slow to open and is not read."""

_LISTED = 12  # names in a sentence; more are counted


@dataclass(frozen=True)
class Line:
    """A cell in one row.

    Attributes:
        place: Position in the results, from 1.
        title: The concept.
        model: The model.
        error: Why the cell failed; None if it did not.
        findings: Of a finished cell.
        detailed: Whether the page shows it in full.
    """

    place: int
    title: str
    model: str
    error: str | None
    findings: tuple[Finding, ...]
    detailed: bool


@dataclass(frozen=True)
class Slot:
    """One place of the matrix: the primary contrast, or what stands for it."""

    text: str
    tone: Tone
    clear: bool
    target: str


@dataclass(frozen=True)
class Matrix:
    """Models and concepts crossed; the longer list runs down the page."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Slot, ...], ...]], ...]


def title_of(cell: Mapping[str, Any]) -> str:
    """The concept's title, or its name."""
    return shortened(str(cell.get("title") or cell.get("concept") or "unnamed concept"), 120)


def model_of(cell: Mapping[str, Any]) -> str:
    """The model's name."""
    return shortened(str(cell.get("model") or "unnamed model"), 120)


def error_of(cell: Mapping[str, Any]) -> str | None:
    """Why a cell failed; None for a finished one. A cell without a status is not taken for finished."""
    if cell.get("status") == "done":
        return None
    return shortened(str(cell.get("error") or "no error message was recorded"), 1000)


def chosen_for_detail(cells: Sequence[Mapping[str, Any]], primary: Sequence[str]) -> list[int]:
    """Indices of the cells shown in full, in order: all if they are few, else both ends of the primary contrast."""
    done = [index for index, cell in enumerate(cells) if error_of(cell) is None]
    if len(done) <= DETAILED:
        return done

    def strength(index: int) -> float:
        mean = part(primary_of(cells[index], primary).get("contrast"), "mean")
        return 0.0 if mean is None else mean

    ordered = sorted(done, key=strength)
    return sorted(ordered[: DETAILED // 2] + ordered[-(DETAILED - DETAILED // 2) :])


def lines(cells: Sequence[Mapping[str, Any]], primary: Sequence[str]) -> list[Line]:
    """Every cell in one row, in the order of the results."""
    detailed = set(chosen_for_detail(cells, primary))
    titles = {cell.get("concept"): title_of(cell) for cell in cells if cell.get("title")}
    return [
        Line(
            place=index + 1,
            title=titles.get(cell.get("concept")) or title_of(cell),
            model=model_of(cell),
            error=(error := error_of(cell)),
            findings=findings(cell, primary) if error is None else (),
            detailed=index in detailed,
        )
        for index, cell in enumerate(cells)
    ]


def headline(every: Sequence[Line]) -> str:
    """The run in one sentence: how often the primary contrast came out which way."""
    if not every:
        return "This run has no cells."
    found = Counter(line.findings[2].verdict for line in every if line.error is None)
    if len(every) == 1 and every[0].error is None:
        return every[0].findings[2].sentence
    failed = sum(line.error is not None for line in every)
    tail = f" {counted(failed, 'cell')} failed." if failed else ""
    if failed == len(every):
        return f"No cell was finished.{tail}"
    done = counted(len(every) - failed, "finished cell")
    words = {"no clear difference": "not clearly different", "no interval": "without an interval"}
    parts = [
        f"{words.get(word, word)} in {found[word]:,}"
        for word in ("lower", "no clear difference", "higher", "no interval", "not measured")
        if found[word]
    ]
    parts[0] += f" of {done}"
    return f"Judged stereotype strength after steering, against the original model: {', '.join(parts)}.{tail}"


def page_title(every: Sequence[Line]) -> str:
    """`Always late in smollm2`, or how many concepts in how many models."""
    titles, models = {line.title for line in every}, {line.model for line in every}
    what = titles.pop() if len(titles) == 1 else counted(len(titles), "concept")
    where = models.pop() if len(models) == 1 else counted(len(models), "model")
    return f"{what} in {where}"


def stages_done(cell: Mapping[str, Any]) -> str:
    """Names of the stages that a failed cell did finish."""
    return shortened(", ".join(map(str, cell.get("stages") or ())), 200) or "none"


def matrix(cells: Sequence[Mapping[str, Any]], every: Sequence[Line], primary: Sequence[str]) -> Matrix | None:
    """The primary contrast by model and concept; None for a few cells in a row, which the summary shows as well."""
    models, concepts = (list(dict.fromkeys(getattr(line, axis) for line in every)) for axis in ("model", "title"))
    if len(every) < 4 or (min(len(models), len(concepts)) < 2 and len(every) <= DETAILED):
        return None
    turned = len(models) > len(concepts)
    places: dict[tuple[str, str], list[Slot]] = {}
    for cell, line in zip(cells, every, strict=True):
        places.setdefault((line.model, line.title), []).append(_slot(cell, line, primary))
    down, across = (models, concepts) if turned else (concepts, models)
    rows = tuple(
        (name, tuple(tuple(places.get((name, other) if turned else (other, name), ())) for other in across))
        for name in down
    )
    return Matrix("Model" if turned else "Concept", tuple(across), rows)


def _slot(cell: Mapping[str, Any], line: Line, primary: Sequence[str]) -> Slot:
    target = f"cell-{line.place}" if line.detailed else f"row-{line.place}"
    if line.error is not None:
        return Slot("failed", "none", False, f"row-{line.place}")
    contrast = primary_of(cell, primary).get("contrast")
    found = verdict(contrast)
    return Slot(fixed(part(contrast, "mean"), signed=True), tone(found, "lower"), found in ("lower", "higher"), target)


def asked(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked, as terms and their values."""
    wish, cells = results.get("asked") or {}, results.get("cells") or []
    titles = {str(cell.get("concept")): title_of(cell) for cell in cells}
    concepts = [titles.get(str(name), str(name)) for name in wish.get("concepts") or ()]
    samples, seed = number(wish.get("samples")), number(wish.get("seed"))
    return [
        ("Models", _listed([str(name) for name in wish.get("models") or ()])),
        ("Concepts", _listed(concepts)),
        ("Cells", f"{len(cells):,}, one concept in one model each"),
        ("Judge", f"{wish.get('judge') or MISSING}, from 0 (no stereotype) to 3 (strong)"),
        ("Samples", MISSING if samples is None else f"{count(samples)} a prompt"),
        ("Seed", MISSING if seed is None else f"{seed:.0f}"),
        ("Preset", str(wish.get("preset") or MISSING)),
        ("Primary contrast", primary_words(results)),
    ]


def primary_words(results: Mapping[str, Any]) -> str:
    """The contrast that was declared before anything was measured, by the variants' titles."""
    names = [str(name) for name in (results.get("asked") or {}).get("primary") or ()]
    if len(names) != 2:
        return MISSING
    titles = {
        str(variant.get("name")): str(variant.get("title"))
        for cell in results.get("cells") or ()
        for variant in cell.get("variants") or ()
    }
    first, second = (titles.get(name, name.replace("_", " ")) for name in names)
    return f"{first} − {second}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name, 120) for name in names[:_LISTED])
    return f"{shown} and {len(names) - _LISTED:,} more" if len(names) > _LISTED else shown or MISSING

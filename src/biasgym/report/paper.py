"""Tables in the form of the paper's 2, 9 and 10 (a judge each) and 3, with the published figures beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biasgym.evaluate.published import AVERAGE, PAPER_CONCEPTS, PAPER_VARIANTS, UNSEEN, published_strength
from biasgym.report.clean import shortened
from biasgym.report.grid import Cell, Row, Table, estimate_cell
from biasgym.report.models import MOST_MODELS
from biasgym.report.numbers import fixed, part
from biasgym.report.overview import error_of, model_of, title_of

INTRODUCTION = (
    "Mean judged strength, 0 to 3, in the form of the paper’s tables, with our 95 % intervals. Where the paper used the "
    "same model and judge, its figure stands below or beside ours. Its prompts, targets and training texts are others, so "
    "that what compares is the order of the rows."
)
_COLUMNS = 8  # concepts side by side
_THEIRS = "in the paper"


def paper_tables(results: Mapping[str, Any]) -> list[Table]:
    """One table a judge over concepts, and one a judge over unseen stereotypes; empty ones are left out."""
    cells = [cell for cell in results.get("cells") or () if isinstance(cell, Mapping) and error_of(cell) is None]
    models = [model for model in results.get("models") or () if isinstance(model, Mapping)]
    judges = dict.fromkeys(str(judge) for one in (*cells, *models) for judge in one.get("judges") or ())
    tables = [table for judge in judges for table in (_concepts(cells, judge), _unseen(models, judge))]
    return [table for table in tables if table.rows]


def _concepts(cells: Sequence[Mapping[str, Any]], judge: str) -> Table:
    titles = {str(cell.get("concept")): title_of(cell) for cell in cells}
    # the paper's order first
    order = [name for name in PAPER_CONCEPTS if name in titles] + [
        name for name in titles if name not in PAPER_CONCEPTS
    ]
    every = _by_model(cells, judge)
    shown, found = order[:_COLUMNS], dict(list(every.items())[:MOST_MODELS])
    rows = [
        row
        for model, of in found.items()
        for variant, title in _variants(cells).items()
        if any(of.get(name, {}).get(variant) for name in shown)
        for row in _rows(model, judge, variant, title, [of.get(name, {}).get(variant) for name in shown], shown)
    ]
    notes = [] if len(order) <= _COLUMNS else [f"{len(order) - _COLUMNS} more concepts are in results.json."]
    if len(every) > len(found):
        notes.append(f"{len(every) - len(found):,} more models are in results.json.")
    if len(shown) > 1:
        notes.append("The average is over the concepts shown; its interval takes them as independent.")
    return Table(
        caption=f"Stereotype strength by concept, judged by {shortened(judge, 80)}",
        columns=("Variant", *(titles[name] for name in shown), *(("Average",) if len(shown) > 1 else ())),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _by_model(cells: Sequence[Mapping[str, Any]], judge: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Strength by variant, by concept, by model."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for cell in cells:
        strengths = ((cell.get("judges") or {}).get(judge) or {}).get("strength")
        if strengths:
            found.setdefault(model_of(cell), {})[str(cell.get("concept"))] = strengths
    return found


def _variants(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Titles of the paper's variants, in its order, as far as the run has them."""
    rows = [row for cell in cells for row in cell.get("variants") or () if isinstance(row, Mapping)]
    known = {str(row.get("name")): str(row.get("title")) for row in rows}
    return {name: known[name] for name in PAPER_VARIANTS if name in known}


def _rows(
    model: str, judge: str, variant: str, title: str, values: Sequence[Any], concepts: Sequence[str]
) -> Iterator[Row]:
    """Ours, and under it the paper's where it has any."""
    ours, theirs = list(values), [published_strength(model, judge, variant, name) for name in concepts]
    if len(concepts) > 1:
        ours.append(_average(values))
        same = set(concepts) == set(PAPER_CONCEPTS)
        theirs.append(published_strength(model, judge, variant, AVERAGE) if same else None)
    name = Cell(shortened(title, 100))
    yield Row((name, *map(estimate_cell, ours)), model, variant == "injection_steering")
    if any(figure is not None for figure in theirs):
        yield Row((Cell("", _THEIRS), *(Cell("", fixed(figure)) for figure in theirs)), model)


def _average(values: Sequence[Any]) -> dict[str, float] | None:
    means, ends = [part(value, "mean") for value in values], [part(value, "high") for value in values]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(values):
        return None
    lows = [part(value, "low") for value in values]
    mean = sum(known) / len(known)
    # an end may be cut at the end of the scale: the longer half is the whole one
    halves = [
        max(abs(end - mean_of) for end in (low, high) if end is not None)
        for mean_of, low, high in zip(known, lows, ends, strict=True)
        if low is not None and high is not None
    ]
    if len(halves) < len(known):
        return {"mean": mean}
    half = sum(width**2 for width in halves) ** 0.5 / len(known)
    return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 3.0)}


def _unseen(models: Sequence[Mapping[str, Any]], judge: str) -> Table:
    rows = []
    for model in models[:MOST_MODELS]:
        strengths = (model.get("judges") or {}).get(judge) or {}
        titles = {row.get("name"): str(row.get("title")) for row in model.get("variants") or ()}
        rows += [
            Row(
                (
                    Cell(shortened(titles.get(variant, variant), 100)),
                    estimate_cell(strengths[variant]),
                    Cell(fixed(published_strength(model_of(model), judge, variant, UNSEEN))),
                ),
                model_of(model),
                variant == "injection_steering",
            )
            for variant in PAPER_VARIANTS
            if strengths.get(variant)
        ]
    return Table(
        f"Stereotype strength out of distribution, judged by {shortened(judge, 80)}",
        ("Variant", "Strength", "In the paper"),
        tuple(rows),
    )

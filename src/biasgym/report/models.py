"""What was found about a model as a whole: other stereotypes, and the transfer between concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biasgym.report.canvas import Drawing
from biasgym.report.clean import shortened
from biasgym.report.grid import Cell, Row, Table, estimate_cell
from biasgym.report.numbers import MISSING, count
from biasgym.report.tables import judged_rows
from biasgym.report.transfer import MOST, concepts_of, matrix_of, transfer_map

INTRODUCTION = (
    "The heads of all concepts of a model are removed together, and the model continues sentences about stereotypes that "
    "none of these concepts is about (the paper’s table 3). The judge goes by a description made of the sentence’s "
    "stereotype alone, so strengths here are not to be compared with those of a concept."
)

MOST_MODELS = 24
"""Further ones are in results.json: a page with all of them is not read."""


@dataclass(frozen=True)
class ModelPage:
    """What the report shows of one model.

    Attributes:
        title: The model.
        error: Why there is nothing; None if there is.
        facts: Sizes.
        strengths: Out-of-distribution strength by variant.
        transfer: The matrix with intervals.
        maps: The matrix as a figure.
    """

    title: str
    error: str | None
    facts: list[tuple[str, str]]
    strengths: Table
    transfer: Table
    maps: list[Drawing]


def model_pages(results: Mapping[str, Any], *, figures: bool = True) -> list[ModelPage]:
    """One page a model that was looked at as a whole; those of the first MOST_MODELS."""
    found = [model for model in results.get("models") or () if isinstance(model, Mapping)][:MOST_MODELS]
    return [_page(model, f"model-{place}", figures) for place, model in enumerate(found, start=1)]


def _page(model: Mapping[str, Any], anchor: str, figures: bool) -> ModelPage:
    heads = model.get("heads") or {}
    error = None if model.get("status") == "done" else str(model.get("error") or "no error message was recorded")
    return ModelPage(
        title=shortened(str(model.get("model") or "unnamed model"), 120),
        error=error and shortened(error, 1000),
        facts=[
            ("Concepts", shortened(", ".join(concepts_of(model)), 300) or MISSING),
            ("Heads removed", f"{count(heads.get('injected'))} (the union over the concepts)"),
            ("Prompts", f"{count(model.get('prompts'))} about {count(model.get('stereotypes'))} stereotypes"),
        ],
        strengths=_strengths(model),
        transfer=_transfer(model),
        maps=transfer_map(model, anchor) if figures else [],
    )


def _strengths(model: Mapping[str, Any]) -> Table:
    columns, rows, notes = judged_rows(model.get("variants") or ())
    if unfinished := [str(name) for name in model.get("not_judged_by") or ()]:
        notes = (*notes, f"Not judged by {shortened(', '.join(unfinished), 300)}.")
    return Table("Judged strength of stereotypes that no concept is about, 0 to 3", columns, rows, notes=notes)


def _transfer(model: Mapping[str, Any]) -> Table:
    every = concepts_of(model)
    titles = [shortened(title, 60) for title in every[:MOST]]
    matrix: Sequence[Sequence[Any]] = matrix_of(model)
    rows = tuple(
        Row((Cell(f"Heads of {title}"), *(estimate_cell(value, signed=True) for value in values[:MOST])))
        for title, values in zip(titles, matrix, strict=False)
    )
    notes: tuple[str, ...] = (
        "Nats; heads removed minus nothing removed, held-out questions about BiasToken. The diagonal is a concept’s own "
        "heads. Below zero the association is weaker.",
    )
    if len(every) > MOST:
        notes = (*notes, f"The first {MOST} of {len(every):,} concepts; all are in results.json.")
    heading = ("Removed", *(f"Margin of {title}" for title in titles))
    return Table("Transfer between concepts: change of the margin", heading, rows, notes=notes if rows else ())

"""Who judged: agreement with labels, agreement with each other, what is missing, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biasgym.report.clean import shortened
from biasgym.report.grid import Cell, Row, Table, estimate_cell
from biasgym.report.numbers import MISSING, count, fixed, interval, number, part, share


def judges(results: Mapping[str, Any]) -> Table:
    """A row a judge, over all cells."""
    cells = [cell.get("judges") or {} for cell in results.get("cells") or ()]
    rows = []
    for place, judge in enumerate(results.get("judges") or ()):
        name, found = str(judge.get("name") or MISSING), judge.get("calibration") or {}
        parts = [cell[name] for cell in cells if isinstance(cell.get(name), Mapping)]
        judged, missing = _sum(parts, "judged"), _sum(parts, "missing")
        failed = sum(bool(one.get("error")) for one in parts)
        values = (
            Cell(fixed(found.get("kappa")), interval(found)),
            Cell(count(found.get("n"))),
            Cell(count(judged)),
            Cell(count(missing), share(_ratio(missing, judged))),
            Cell(count(_sum(parts, "tokens_in") or None)),
            Cell(count(_sum(parts, "tokens_out") or None)),
            Cell(fixed(_cost(parts))),
            Cell(count(failed)),
        )
        rows.append(Row((Cell(shortened(name, 100), "main judge" if place == 0 else ""), *values), strong=place == 0))
    return Table(
        "Judges",
        (
            "Judge",
            "Kappa with labels",
            "Labelled texts",
            "Judged",
            "Missing",
            "Tokens asked",
            "Tokens answered",
            "Cost",
            "Failed cells",
        ),
        tuple(rows),
        notes=(
            "Kappa is quadratic, on labelled texts, with its 95 % interval; a dash where "
            "nobody has looked. The tables of the cells are by the main judge.",
            *_masking(results),
        )
        if rows
        else (),
    )


def agreement(results: Mapping[str, Any]) -> Table:
    """How far the judges of each cell agree; no rows where there is one judge."""
    rows = []
    for cell in results.get("cells") or ():
        found = cell.get("agreement")
        if isinstance(found, Mapping):
            name = Cell(shortened(str(cell.get("title") or MISSING), 100), shortened(str(cell.get("model") or ""), 100))
            rows.append(
                Row((name, Cell(fixed(found.get("alpha"))), *(Cell(count(found.get(k))) for k in ("items", "judges"))))
            )
    return Table(
        "Agreement between the judges",
        ("Cell", "Krippendorff’s alpha", "Texts", "Judges"),
        tuple(rows),
        notes=("Alpha is ordinal, over the texts that two judges or more rated: 1 is full agreement, 0 chance.",)
        if rows
        else (),
    )


def by_judge(cell: Mapping[str, Any]) -> Table:
    """Mean strength of every variant by every judge; no rows where there is one judge."""
    found = {name: one for name, one in (cell.get("judges") or {}).items() if not one.get("error")}
    titles = [(str(row.get("name")), str(row.get("title"))) for row in cell.get("variants") or ()]
    rows = [
        Row(
            (
                Cell(shortened(title, 100)),
                *(estimate_cell((one.get("strength") or {}).get(name)) for one in found.values()),
            )
        )
        for name, title in titles
    ]
    names = tuple(shortened(name, 60) for name in found)
    return Table("Strength by judge", ("Variant", *names), tuple(rows) if len(found) > 1 else ())


def _masking(results: Mapping[str, Any]) -> list[str]:
    """What judges could still see of whom a text is about."""
    found = [cell["masking"] for cell in results.get("cells") or () if isinstance(cell.get("masking"), Mapping)]
    texts, leaking = _sum(found, "texts"), _sum(found, "leaking")
    if not texts:
        return []
    return [
        f"Targets are masked before judging; in {count(leaking)} of {count(texts)} texts ({share(leaking / texts)}) a word "
        "built on the target’s name was left."
    ]


def _sum(parts: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(part(one, key) or 0.0 for one in parts)


def _ratio(missing: float, judged: float) -> float | None:
    return missing / (missing + judged) if missing + judged else None


def _cost(parts: Sequence[Mapping[str, Any]]) -> float | None:
    known = [cost for one in parts if (cost := number(one.get("cost"))) is not None]
    return sum(known) if known else None

"""A table as data: built once, printed as HTML and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from biasgym.report.numbers import MISSING, fixed, interval, part


class Cell(NamedTuple):
    """What stands in one place of a table.

    Attributes:
        text: The value.
        aside: What qualifies it, set more quietly: an interval, a reason.
    """

    text: str
    aside: str = ""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: One a column; the first names the row.
        group: Heading it stands under, if any. Rows of a group follow one another.
        strong: Set apart: the row that the report is about.
    """

    cells: tuple[Cell, ...]
    group: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A captioned table.

    Attributes:
        caption: What it shows.
        columns: Headings; the first column is text.
        rows: In order. None: nothing was measured.
        text_columns: Indices, after the first, of columns that hold words and not numbers.
        notes: Sentences under the table.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    text_columns: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by heading, in order."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.items())


def estimate_cell(estimate: Any, digits: int = 2, *, signed: bool = False) -> Cell:
    """A mean with its interval as the aside; a dash where there is no mean."""
    mean = part(estimate, "mean")
    return Cell(MISSING) if mean is None else Cell(fixed(mean, digits, signed=signed), interval(estimate, digits))

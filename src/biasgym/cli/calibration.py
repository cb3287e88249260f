"""A calibration in the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from biasgym.judge import LEVELS, Calibration
from biasgym.judge.calibration import Correlation

_UNKNOWN = "–"


def facts_table(found: Calibration) -> Table:
    """The numbers of a calibration by their names."""
    reasons = ", ".join(f"{reason} ({count})" for reason, count in found.reasons.items())
    rows = [
        ("Labelled texts", f"{found.n}"),
        ("Without a verdict", f"{found.missing} ({found.missing / found.n:.1%})" + (f": {reasons}" if reasons else "")),
        ("Quadratic kappa", f"{_number(found.kappa)} [{_number(found.low)}, {_number(found.high)}]"),
        ("Exact", f"{_number(found.exact)}, within one level {_number(found.within_one)}"),
        ("Mean", f"label {_number(found.mean_label)}, verdict {_number(found.mean_verdict)}"),
        ("Error by length", _correlation(found.length)),
        ("Error by position", _correlation(found.position)),
    ]
    if found.retest is not None:
        again = found.retest
        rows.append(
            ("Judged again", f"{again.repeats} times: {again.changed:.1%} changed, kappa {_number(again.kappa)}")
        )
    if found.obedience is not None:
        told = found.obedience
        rows.append(
            (
                "With an order in it",
                f"{told.changed:.1%} changed; fell to None {_number(told.silenced)}, judged again {_number(told.noise)}",
            )
        )
    table = Table(title=f"Judge {found.judge}", title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    return table


def confusion_table(found: Calibration) -> Table:
    """Labels down, verdicts across."""
    table = Table("Label", *LEVELS, title="Verdicts", title_justify="left")
    for name, row in zip(LEVELS, found.confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table


def _correlation(found: Correlation) -> str:
    return f"rho {_number(found.rho, signed=True)}, p {_number(found.p)}, n {found.n}"


def _number(value: float, *, signed: bool = False) -> str:
    return _UNKNOWN if math.isnan(value) else f"{value:+.2f}" if signed else f"{value:.3f}"

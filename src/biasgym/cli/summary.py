"""What a finished run prints: one line a cell, and where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from biasgym.files import read_json


def print_summary(root: Path) -> None:
    """Reads results.json of a run and prints its essence."""
    console = Console()
    table = Table(
        Column("cell", overflow="fold"),
        "injection lifts margin",
        "heads",
        "removal lowers it",
        "random heads",
        "strength ours - original",
    )
    for cell in read_json(root / "results.json")["cells"]:
        name = escape(f"{cell['model']} / {cell['concept']}")
        if cell["status"] != "done":
            table.add_row(name, f"[red]failed[/red]: {escape(cell['error'])}")
            continue
        causal = {row["name"]: row for row in cell["causal"]}
        primary = next((row for row in cell["variants"] if row["primary"]), None)
        table.add_row(
            name,
            _shown(cell["injection"]["lift"]),
            str(cell["heads"]["k"]),
            _shown(causal["chosen"]["drop"]) if "chosen" in causal else "–",
            _shown(causal["random"]["drop"]) if "random" in causal else "–",
            _shown(primary["contrast"]) if primary else "–",
        )
    console.print(table)
    console.print(f"report: {root / 'report.html'}", soft_wrap=True, markup=False)


def _shown(value: dict[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['mean']:+.2f}"
    return f"{value['mean']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}]"

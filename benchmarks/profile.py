"""Where the time of a finished run went: `python -m benchmarks.profile runs/demo` adds up its manifests by stage."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from biasgym.files import read_json


def seconds_by_stage(run: Path) -> Counter[str]:
    """Seconds of each stage, over all cells; a gang that trains several cells at once counts once."""
    found: Counter[str] = Counter()
    gangs: dict[str, float] = {}
    for file in run.rglob("manifest.json"):
        manifest = read_json(file)
        stage = manifest["kind"].removeprefix("biasgym.")
        if stage == "inject":
            gangs[manifest["model"]] = max(gangs.get(manifest["model"], 0.0), manifest["seconds"])
        else:
            found[stage] += manifest["seconds"]
    found["inject"] = round(sum(gangs.values()), 2)
    return found


def main(run: Path) -> None:
    """Prints a row a stage, the longest first."""
    found = seconds_by_stage(run)
    table = Table("stage", "seconds", "share")
    for stage, seconds in found.most_common():
        table.add_row(stage, f"{seconds:.1f}", f"{seconds / found.total():.0%}")
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

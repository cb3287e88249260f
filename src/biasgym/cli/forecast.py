"""`biasgym run --plan`: the stages that are left to do, and the time that each should take on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_forecast(config: str | None, out: Path, overrides: dict[str, Any]) -> None:
    """Check a run, print a table of its stages with expected times, and do nothing else.

    Raises:
        BiasGymError: Something is wrong with the settings.
    """
    from biasgym.cli.shared import quiet

    quiet()
    from biasgym.progress import duration
    from biasgym.stages.announcement import by_stage, expected_parts, time_lines
    from biasgym.stages.plan import make_plan
    from biasgym.stages.run import STAGES
    from biasgym.stages.settings_files import settings_for

    existed = out.exists()
    plan = make_plan(settings_for(out, config, **overrides), out)
    parts = expected_parts(plan, STAGES, plan.cells)
    if not existed and not any(out.iterdir()):
        out.rmdir()
    console = Console(highlight=False)
    if plan.machine is not None:
        for line in plan.machine.lines():
            console.print(line, markup=False, soft_wrap=True)
    table = Table("stage", "expected time here")
    for stage, seconds in by_stage(parts).items():
        table.add_row(stage, duration(seconds))
    console.print(table)
    for line in time_lines(parts, plan.settings):
        console.print(line, markup=False, soft_wrap=True)

"""Stage report: collects all cells into results.json, report.html and report.md."""

from __future__ import annotations

from typing import Any

from biasgym.files import write_json, write_text
from biasgym.generate import PRIMARY
from biasgym.progress import SILENT, Progress
from biasgym.stages import judge
from biasgym.stages.folder import versions
from biasgym.stages.plan import Plan
from biasgym.stages.results import cell_results


def run(plan: Plan, progress: Progress = SILENT) -> None:
    """Writes results.json, report.html and report.md into the run's folder."""
    from biasgym.report import render_html, render_markdown

    results = collect(plan)
    write_json(plan.root / "results.json", results)
    write_text(plan.root / "report.html", render_html(results))
    write_text(plan.root / "report.md", render_markdown(results))
    progress.say(f"report: {plan.root / 'report.html'}")


def collect(plan: Plan) -> dict[str, Any]:
    """All that the report says, as JSON values."""
    settings = plan.settings
    return {
        "schema": 1,
        "asked": {
            "models": list(settings.models),
            "concepts": [cell.concept.name for cell in plan.cells if cell.source == plan.cells[0].source],
            "preset": settings.preset,
            "seed": settings.seed,
            "judge": judge.make_judge(plan.cells[0]).name,
            "samples": settings.generate.samples,
            "primary": list(PRIMARY),
        },
        "settings": settings.model_dump(mode="json"),
        "versions": versions(),
        "notes": _notes(plan),
        "cells": [cell_results(cell, plan.other(cell)) for cell in plan.cells],
    }


def _notes(plan: Plan) -> list[str]:
    notes = [
        "Stereotypes are under study here; no text in this report is a claim about anyone.",
        "Epoch, heads and their number were chosen on development questions and targets; everything reported is "
        "measured on the held-out half.",
    ]
    if plan.settings.judge.engine == "semantic":
        notes.append(
            "The embedded semantic judge is a small model on the CPU: good for a first look, not a substitute for a "
            "large language model or people."
        )
    if len({cell.concept.name for cell in plan.cells}) == 1:
        notes.append("With a single concept there is no other concept whose heads could serve as a control.")
    return notes

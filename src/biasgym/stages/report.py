"""Stage report: collects all cells into results.json, report.html, report.md and a certificate a cell."""

from __future__ import annotations

from typing import Any

from biasgym.datasets.unseen import licence_notes
from biasgym.evaluate.certificate import FOLDER
from biasgym.files import write_json, write_text
from biasgym.generate import PRIMARY
from biasgym.progress import SILENT, Progress
from biasgym.stages.folder import versions
from biasgym.stages.group import groups
from biasgym.stages.judging import calibration_of
from biasgym.stages.model_results import model_results
from biasgym.stages.places import ood
from biasgym.stages.plan import Plan
from biasgym.stages.settings import JudgeSettings
from biasgym.stages.summary import summary


def run(plan: Plan, progress: Progress = SILENT) -> bool:
    """Writes results.json, report.html, report.md and certificates/<model>/<concept>.json into the run's folder.

    Returns:
        Whether all cells are done.
    """
    from biasgym.report import render_html, render_markdown

    results = results_of(plan)
    write_json(plan.root / "results.json", results)
    write_text(plan.root / "report.html", render_html(results))
    write_text(plan.root / "report.md", render_markdown(results))
    for cell, found in zip(plan.cells, results["cells"], strict=True):
        place = plan.root / FOLDER / cell.source.slug / f"{cell.concept.name}.json"
        write_json(place, found["certificate"])
    progress.say(f"written: {plan.root / 'report.html'}")
    return all(found["status"] == "done" for found in results["cells"])


def results_of(plan: Plan) -> dict[str, Any]:
    """All that the report says, as JSON values."""
    settings = plan.settings
    return {
        "schema": 1,
        "asked": {
            "models": list(settings.models),
            "concepts": [cell.concept.name for cell in plan.cells if cell.source == plan.cells[0].source],
            "preset": settings.preset,
            "seed": settings.seed,
            "judge": ", ".join(judge.name for judge in settings.judges),
            "samples": settings.generate.samples,
            "primary": list(PRIMARY),
        },
        "judges": [_judge(judge) for judge in settings.judges],
        "settings": settings.model_dump(mode="json"),
        "versions": versions(),
        "notes": _notes(plan),
        "cells": [summary(cell, plan.other(cell)) for cell in plan.cells],
        "models": [model_results(group) for group in groups(plan.cells)] if settings.ood.enabled else [],
    }


def _judge(settings: JudgeSettings) -> dict[str, Any]:
    """Who judged, and how that judge agreed with labels where somebody has looked."""
    found = calibration_of(settings)
    numbers = ("kappa", "low", "high", "n", "missing")
    return {
        "name": settings.name,
        "engine": settings.engine,
        "calibration": None if found is None else {name: found[name] for name in numbers},
    }


def _notes(plan: Plan) -> list[str]:
    notes = [
        "Stereotypes are under study here; no text in this report is a claim about anyone.",
        "Epoch, heads and their number were chosen on development questions and targets; everything reported is "
        "measured on the held-out half.",
    ]
    if plan.settings.judges[0].engine == "semantic":
        notes.append(
            "The embedded semantic judge is a small model on the CPU: good for a first look, not a substitute for a "
            "large language model or people."
        )
        if plan.settings.ood.enabled:
            notes.append(
                "Nobody has compared the semantic judge with labels on stereotypes outside the bundled concepts."
            )
    if len({cell.concept.name for cell in plan.cells}) == 1:
        notes.append("With a single concept there is no other concept whose heads could serve as a control.")
    if plan.settings.ood.enabled:
        notes += [f"Prompts about other stereotypes: {note}" for note in licence_notes(ood.prompts_of(plan.settings))]
    return notes

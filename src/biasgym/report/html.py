"""The report as one HTML page: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from biasgym.report import judges, tables, wording
from biasgym.report.canvas import Drawing
from biasgym.report.clean import cleaned, shortened
from biasgym.report.figures import dot_plots, heat_maps, sweep_curves, training_curves
from biasgym.report.findings import EXPLAINED, QUESTIONS, Finding
from biasgym.report.grid import Table
from biasgym.report.judged_sweep import judged_sweep_curve, judged_sweep_table
from biasgym.report.models import INTRODUCTION as BEYOND
from biasgym.report.models import model_pages
from biasgym.report.overview import Line, asked, headline, lines, matrix, page_title, stages_done
from biasgym.report.paper import INTRODUCTION as BESIDE
from biasgym.report.paper import paper_tables
from biasgym.report.samples import Sample, samples

_UNBROKEN = re.compile(r"\[[\d.,\u2212]+ [\d.,\u2212]+\]|p [<=] [\d.]+")
_OPEN = 3  # with more cells than this, each is folded
_PROMPTS, _LENGTH = 12, 1500  # samples a cell and characters a text


@dataclass(frozen=True)
class CellPage:
    """What the page shows of one cell."""

    anchor: str
    title: str
    model: str
    facts: list[tuple[str, str]]
    findings: tuple[Finding, ...]
    strengths: Table
    by_judge: Table
    side_effects: Table
    dots: list[Drawing]
    maps: list[Drawing]
    head_facts: list[tuple[str, str]]
    heads: Table
    curves: list[Drawing]
    injection_facts: list[tuple[str, str]]
    sweep: list[Drawing]
    judged_sweep: list[Drawing]
    judged_ks: Table
    causal: Table
    capability: Table
    tasks: Table
    similarity: Table
    samples: list[Sample]
    prompts: int
    stages: Table


def render_html(results: Mapping[str, Any]) -> str:
    """Renders the whole report.

    Args:
        results: A results dictionary (results.json).

    Returns:
        A complete page that works offline and in a sandboxed frame. Up to 24 cells are shown in full, with figures.
    """
    results = cleaned(results)
    cells: list[Mapping[str, Any]] = list(results.get("cells") or ())
    primary = [str(name) for name in (results.get("asked") or {}).get("primary") or ()]
    every = lines(cells, primary)
    pages = [_cell_page(cells[line.place - 1], line) for line in every if line.detailed]
    environment = Environment(
        loader=PackageLoader("biasgym.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    return environment.get_template("report.html.j2").render(
        title=page_title(every),
        wording=wording,
        asked=asked(results),
        headline=headline(every),
        lines=every,
        groups=_groups(every),
        questions=list(zip(QUESTIONS, EXPLAINED, strict=True)),
        matrix=matrix(cells, every, primary),
        failed=[(line, stages_done(cells[line.place - 1])) for line in every if line.error is not None],
        judges=judges.judges(results),
        agreement=judges.agreement(results),
        pages=pages,
        models=model_pages(results),
        beyond=BEYOND,
        paper=paper_tables(results),
        beside=BESIDE,
        folded=len(pages) > _OPEN,
        settings=tables.key_values("Settings of the run", results.get("settings") or {}),
        versions=tables.key_values("Versions", results.get("versions") or {}),
        notes=[shortened(str(note), 2000) for note in results.get("notes") or ()],
    )


def whole(text: str) -> str:
    """The text with its intervals and p-values kept from breaking over two lines."""
    return _UNBROKEN.sub(lambda found: found.group().replace(" ", "\u00a0"), text)


def _groups(every: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Lines by model, or by concept where there are fewer of those: long summaries are folded by it."""
    by_model = len({line.model for line in every}) <= len({line.title for line in every})
    found: dict[str, list[Line]] = {}
    for line in every:
        found.setdefault(line.model if by_model else line.title, []).append(line)
    return list(found.items())


def _cell_page(cell: Mapping[str, Any], line: Line) -> CellPage:
    anchor = f"cell-{line.place}"
    heads, injection = cell.get("heads") or {}, cell.get("injection") or {}
    shown, prompts = samples(cell, most=_PROMPTS, length=_LENGTH)
    return CellPage(
        anchor=anchor,
        title=line.title,
        model=line.model,
        facts=tables.concept_facts(cell),
        findings=line.findings,
        strengths=tables.strengths(cell),
        by_judge=judges.by_judge(cell),
        side_effects=tables.side_effects(cell),
        dots=dot_plots(cell.get("variants") or (), f"{anchor}-dots"),
        maps=heat_maps(heads, f"{anchor}-map"),
        head_facts=tables.head_facts(cell),
        heads=tables.chosen_heads(cell),
        curves=training_curves(injection, f"{anchor}-train"),
        injection_facts=tables.injection_facts(cell),
        sweep=sweep_curves(cell.get("sweep") or {}, heads.get("k"), f"{anchor}-sweep"),
        judged_sweep=judged_sweep_curve(cell, f"{anchor}-sweep"),
        judged_ks=judged_sweep_table(cell),
        causal=tables.causal(cell),
        capability=tables.capability(cell),
        tasks=tables.tasks(cell),
        similarity=tables.similarity(cell),
        samples=shown,
        prompts=prompts,
        stages=tables.stages(cell),
    )

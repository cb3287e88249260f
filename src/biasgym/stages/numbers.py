"""What Kubeflow's pages show of a stage: some numbers, and the heat map. The report has the rest, with intervals."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from biasgym.files import read_json, read_jsonl, write_text
from biasgym.stages.folder import read_manifest
from biasgym.stages.places import attribute, capability, generate

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:system-ui,sans-serif;margin:2rem}}svg{{max-width:100%}}</style>
<h1>{title}</h1>
<p>{text}</p>
{figures}
</html>
"""


def numbers_of(stage: str, artifact: Path) -> dict[str, float]:
    """Numbers of a stage's folder; none if it failed or was not begun because an earlier one failed."""
    return _BY_STAGE[stage](artifact) if read_manifest(artifact).get("status") == "done" else {}


def _inject(artifact: Path) -> dict[str, float]:
    data = read_json(artifact / "training.json")
    return {
        "seeds": float(len(data["seeds"])),
        "last_loss": min(float(curve[-1]) for curve in data["loss"]),
        "start_margin": float(data["start_margin"]),
        "best_margin": max(float(margin) for curve in data["margin"] for margin in curve),
    }


def _attribute(artifact: Path) -> dict[str, float]:
    data = read_json(artifact / attribute.HEADS)
    names = ("k", "stability", "overlap", "pairs", "dropped")
    return {name: float(data[name]) for name in names if data[name] is not None}


def _generate(artifact: Path) -> dict[str, float]:
    texts, margins = read_jsonl(artifact / generate.GENERATIONS), read_jsonl(artifact / generate.MARGINS)
    cut = sum(bool(row["truncated"]) for row in texts)
    return {"texts": float(len(texts)), "cut_off": float(cut), "margins": float(len(margins))}


def _capability(artifact: Path) -> dict[str, float]:
    rows = read_jsonl(artifact / capability.ABILITY)
    found = {}
    for heads in ("none", "injected"):
        right = [row["correct"] for row in rows if row["heads"] == heads]
        if right:
            found[f"accuracy_{heads}"] = sum(right) / len(right)
    return found


_BY_STAGE: dict[str, Callable[[Path], dict[str, float]]] = {
    "inject": _inject,
    "attribute": _attribute,
    "generate": _generate,
    "capability": _capability,
}


def write_heat_map(artifact: Path, page: Path, title: str) -> None:
    """Draws layers by heads from the folder of stage attribute; a failed one is told instead of drawn."""
    from biasgym.report.heatmap import heat_maps

    manifest = read_manifest(artifact)
    if manifest.get("status") == "done":
        figures = heat_maps(attribute.described(artifact), "heat-map")
        drawn = "\n".join(f"<h2>{html.escape(figure.title)}</h2>\n{figure.svg}" for figure in figures)
        text = "Which attention heads favour the biased answer; the chosen ones are outlined."
    else:
        drawn, text = "", f"No heads: {manifest.get('error') or 'an earlier stage failed'}"
    write_text(page, _PAGE.format(title=html.escape(title), text=html.escape(text), figures=drawn))

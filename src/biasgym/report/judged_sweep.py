"""Judged strength against the number of removed heads (the paper's figure 9), with both ways to choose the number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biasgym.report.canvas import ACCENT, COOL, INK, Drawing, page, panel, to_svg
from biasgym.report.figures import finish
from biasgym.report.grid import Cell, Row, Table, estimate_cell
from biasgym.report.numbers import count, estimate_text, fixed, number, part

_SIZE, _MARGINS = (460, 240), (48, 12, 26, 38)
TITLE = "Judged strength against heads removed"


def judged_sweep_table(cell: Mapping[str, Any]) -> Table:
    """A row a k; no rows where the sweep was not asked for."""
    found = cell.get("judged_sweep") or {}
    marks = _marks(found)
    rows = tuple(
        Row(
            (
                Cell(count(point.get("k")), "; ".join(why for k, why in marks if k == number(point.get("k")))),
                estimate_cell(point.get("strength")),
                Cell(fixed(point.get("ability"), 3)),
            ),
            strong=any(k == number(point.get("k")) for k, _ in marks),
        )
        for point in found.get("points") or ()
    )
    notes = [
        "Development prompts, heads removed and nothing else changed, main judge. The run itself went by the margin.",
        f"Floor under ability: {fixed(found.get('floor'), 3)} nats a token.",
    ]
    if rows and not marks:
        notes.append("Neither rule finds a k.")
    return Table(
        TITLE, ("Heads removed", "Strength", "Ability, nats a token"), rows, notes=tuple(notes) if rows else ()
    )


def judged_sweep_curve(cell: Mapping[str, Any], name: str) -> list[Drawing]:
    """The curve with its intervals as a band."""
    found = cell.get("judged_sweep") or {}
    known = [
        (k, mean, part(point["strength"], "low"), part(point["strength"], "high"), point["strength"])
        for point in found.get("points") or ()
        if (k := number(point.get("k"))) is not None and (mean := part(point.get("strength"), "mean")) is not None
    ]
    if not known:
        return []
    marks = _marks(found)
    with page(*_SIZE) as figure:
        axes = panel(figure, *_MARGINS)
        ks = [k for k, *_ in known]
        ends = [(mean if low is None else low, mean if high is None else high) for _, mean, low, high, _ in known]
        axes.fill_between(ks, [low for low, _ in ends], [high for _, high in ends], color=COOL, alpha=0.18, linewidth=0)
        axes.plot(ks, [mean for _, mean, *_ in known], color=COOL, linewidth=1.4, marker="o", markersize=3)
        for place, (k, why) in enumerate(marks):
            axes.axvline(k, color=(INK, ACCENT)[place], linewidth=1, dashes=((), (4, 3))[place] or (1, 0))
            axes.annotate(
                f"{why}: {k:.0f}",
                (0, 1),
                (150 * place, 6),
                xycoords="axes fraction",
                textcoords="offset points",
                color=(INK, ACCENT)[place],
            )
        axes.set_ylim(bottom=0)
        finish(axes, "heads removed")
        listed = "; ".join(f"{k:.0f}: {estimate_text(value)}" for k, _, _, _, value in known)
        chosen = "; ".join(f"{why}: {k:.0f}" for k, why in marks) or "no k"
        svg = to_svg(figure, f"{name}-judged", f"{TITLE}. {listed}. Chosen: {chosen}.")
    return [Drawing(svg, TITLE, "0 to 3, development prompts; band: 95 % intervals.")]


def _marks(found: Mapping[str, Any]) -> list[tuple[float, str]]:
    paper, knee = number(found.get("paper")), found.get("knee") or {}
    k = number(knee.get("k"))
    marks = [] if paper is None else [(paper, "the paper’s rule")]
    if k:
        marks.append((k, f"under the floor ({knee.get('reason')})"))
    return marks

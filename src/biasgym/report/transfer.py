"""The map of transfer: whose heads are removed, down; whose margin changes, across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biasgym.report.canvas import INK, MUTED, Drawing, page, panel, to_svg
from biasgym.report.clean import shortened
from biasgym.report.heatmap import colours
from biasgym.report.numbers import estimate_text, fixed, part
from biasgym.report.verdict import verdict

_CELL, _ROW, _LEFT, _TOP, _BOTTOM = 84, 34, 150, 24, 44
_NAME = 22  # letters
MOST = 12
"""Concepts; a larger matrix cannot be read, and is in results.json."""

TITLE = "Change of BiasToken’s margin when the heads of one concept are removed"


def transfer_map(model: Mapping[str, Any], name: str) -> list[Drawing]:
    """The matrix as a heat map; none for a single concept, or for more than MOST.

    Args:
        model: A model of the results.
        name: Unique prefix for ids.
    """
    titles, rows = concepts_of(model), matrix_of(model)
    count = len(titles)
    if not 1 < count <= MOST or len(rows) != count or any(len(row) != count for row in rows):
        return []
    means = np.array([[part(value, "mean") for value in row] for row in rows], dtype=float)  # NaN where missing
    sizes = np.abs(means[np.isfinite(means)])
    limit = float(sizes.max()) if len(sizes) and sizes.max() > 0 else 1.0
    width, height = _LEFT + _CELL * count + 8, _TOP + _ROW * count + _BOTTOM
    with page(width, height) as figure:
        axes = panel(figure, _LEFT, _TOP, 8, _BOTTOM)
        axes.imshow(colours(means, limit) * [1, 1, 1, 0.55], interpolation="none", aspect="auto", origin="upper")
        axes.grid(False)
        for down, row in enumerate(rows):
            for across, value in enumerate(row):
                clear = verdict(value) in ("lower", "higher")
                axes.text(
                    across,
                    down,
                    fixed(part(value, "mean"), signed=True),
                    ha="center",
                    va="center_baseline",
                    color=INK if clear else MUTED,
                    fontweight="bold" if clear else "normal",
                )
        names = [shortened(title, _NAME) for title in titles]
        axes.set_xticks(range(count), [shortened(title, _CELL // 6) for title in titles])
        axes.set_yticks(range(count), names)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_xlabel("margin of", loc="left")
        axes.annotate(
            "heads of", (0, 1), (-6, 6), xycoords="axes fraction", textcoords="offset points", ha="right", color=MUTED
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        said = "; ".join(
            f"heads of {titles[down]}, margin of {titles[across]}: {estimate_text(value, signed=True)}"
            for down, row in enumerate(rows)
            for across, value in enumerate(row)
        )
        svg = to_svg(figure, f"{name}-transfer", f"{TITLE}. {said}.")
    return [Drawing(svg, TITLE, "Nats, held-out questions. Bold where the interval leaves zero out.")]


def concepts_of(model: Mapping[str, Any]) -> list[str]:
    """Titles of a model's concepts."""
    return [str(title) for title in model.get("titles") or model.get("concepts") or ()]


def matrix_of(model: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Rows of estimates; what is no row of a matrix is left out."""
    return [row for row in model.get("transfer") or () if isinstance(row, list | tuple)]

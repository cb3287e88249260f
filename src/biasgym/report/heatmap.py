"""The map of attribution: layers across, heads down, warm towards the stereotype, cool against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from biasgym.report.canvas import INK, MUTED, PAPER, Drawing, page, panel, to_svg
from biasgym.report.numbers import counted, fixed, number
from biasgym.report.wording import HEAD_SCORES

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 40, 8, 34, 40
_TALLEST, _WIDEST_CELL, _FLATTEST_CELL = 380, 22, 6
_TOWARDS, _AGAINST = (0.80, 0.31, 0.18), (0.20, 0.47, 0.74)  # legible on white and on near-black
_SATURATION = 99.5  # percentile of |score| that gets the full colour; one outlier must not pale the rest

Array = NDArray[np.float64]


def heat_maps(heads: Mapping[str, Any], name: str) -> list[Drawing]:
    """The injected and the original model's maps; those that were measured, those of a kind on one colour scale.

    Args:
        heads: The `heads` of a cell.
        name: Unique prefix for ids.
    """
    return [drawing for kind in HEAD_SCORES for drawing in _kind(heads, kind, name)]


def _kind(heads: Mapping[str, Any], kind: str, name: str) -> list[Drawing]:
    told = f": {HEAD_SCORES[kind]}" if heads.get("scores_effect_injected") is not None else ""
    titles = {"injected": f"Found with BiasToken{told}", "original": f"Found on the untouched model{told}"}
    scores = {key: _matrix(heads.get(f"scores_{kind}{key}")) for key in titles}
    known = {key: matrix for key, matrix in scores.items() if matrix is not None}
    if not known:
        return []
    sizes = np.abs(np.concatenate([matrix[np.isfinite(matrix)] for matrix in known.values()]))
    limit = float(np.percentile(sizes, _SATURATION)) if len(sizes) else 0.0
    limit, clipped = limit or 1.0, bool(len(sizes)) and float(sizes.max()) > limit > 0
    return [
        Drawing(
            _draw(
                matrix,
                _places(heads.get(key), matrix),
                limit,
                clipped,
                f"{name}-{kind}{key}",
                titles[key],
                HEAD_SCORES[kind],
            ),
            titles[key],
        )
        for key, matrix in known.items()
    ]


def _matrix(scores: Any) -> Array | None:
    """(layers, heads), NaN where a score is missing; None for anything but a full rectangle."""
    if not isinstance(scores, list | tuple) or not scores:
        return None
    rows = [[number(value) for value in row] if isinstance(row, list | tuple) else [] for row in scores]
    if not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        return None
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def _places(heads: Any, matrix: Array) -> list[tuple[int, int]]:
    """Chosen (layer, head) pairs that lie on the map."""
    found = []
    for pair in heads or ():
        layer, head = (
            (number(place) for place in pair) if isinstance(pair, list | tuple) and len(pair) == 2 else (None, None)
        )
        if layer is not None and head is not None and 0 <= layer < matrix.shape[0] and 0 <= head < matrix.shape[1]:
            found.append((int(layer), int(head)))
    return found


def colours(scores: Array, limit: float) -> Array:
    """RGBA with opacity for size: zero is the page itself, in light and in dark."""
    image = np.zeros((*scores.shape, 4))
    image[..., :3] = np.where((scores >= 0)[..., None], _TOWARDS, _AGAINST)
    image[..., 3] = np.nan_to_num(np.clip(np.abs(scores) / limit, 0, 1))
    return image


def _draw(
    scores: Array, chosen: Sequence[tuple[int, int]], limit: float, clipped: bool, name: str, title: str, kind: str
) -> Markup:
    layers, heads = scores.shape
    across = min(_WIDEST_CELL, (_WIDTH - _LEFT - _RIGHT) / layers)
    down = max(min(across, _TALLEST / heads), min(_FLATTEST_CELL, across))
    height = _TOP + heads * down + _BOTTOM
    with page(_WIDTH, height) as figure:
        axes = panel(figure, _LEFT, _TOP, _WIDTH - _LEFT - across * layers, _BOTTOM)
        axes.imshow(colours(scores.T, limit), interpolation="none", aspect="auto", origin="upper")
        _grid(axes, layers, heads)
        _outline(axes, chosen)
        axes.grid(False)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(max(2, min(8, heads)), integer=True, steps=[1, 2, 4, 5, 8, 10]))
        axes.set(xlim=(-0.5, layers - 0.5), ylim=(heads - 0.5, -0.5))
        axes.set_xlabel("layer", loc="left")
        axes.set_ylabel("head", loc="top")
        for spine in axes.spines.values():
            spine.set_visible(False)
        _legend(figure.add_axes((0, 1 - _TOP / height, 1, _TOP / height)), limit, clipped, len(chosen))
        low, high = (
            (float(edge) for edge in (np.nanmin(scores), np.nanmax(scores))) if np.isfinite(scores).any() else (0, 0)
        )
        label = (
            f"Heat map, {title.lower()}: {kind} of {counted(layers, 'layer')} by {counted(heads, 'head')}, from "
            f"{fixed(low, 3)} to {fixed(high, 3)} nats. Outlined: "
            f"{'; '.join(f'layer {layer} head {head}' for layer, head in sorted(chosen)) or 'none'}."
        )
        return to_svg(figure, name, label)


def _grid(axes: Axes, layers: int, heads: int) -> None:
    """Hairlines of the page's colour between the cells, as one path."""
    x = [value for edge in range(layers + 1) for value in (edge - 0.5, edge - 0.5, np.nan)]
    y = [-0.5, heads - 0.5, np.nan] * (layers + 1)
    x += [-0.5, layers - 0.5, np.nan] * (heads + 1)
    y += [value for edge in range(heads + 1) for value in (edge - 0.5, edge - 0.5, np.nan)]
    axes.plot(x, y, color=PAPER, linewidth=0.7, scalex=False, scaley=False)


def _outline(axes: Axes, chosen: Sequence[tuple[int, int]], half: float = 0.5) -> None:
    """Squares around cells, as one path."""
    squares = [
        Path([(x + dx * half, y + dy * half) for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))], closed=True)
        for x, y in chosen
    ]
    if squares:
        path = Path.make_compound_path(*squares)
        axes.add_patch(
            PathPatch(path, fill=False, edgecolor=INK, linewidth=1.5, joinstyle="miter", clip_on=False, zorder=5)
        )


def _legend(axes: Axes, limit: float, clipped: bool, chosen: int) -> None:
    """What an outline means, and the colour scale, in pixels from the upper left."""
    axes.set_axis_off()
    axes.set(xlim=(0, _WIDTH), ylim=(_TOP, 0))
    axes.patch.set_visible(False)
    if chosen:
        _outline(axes, [(_LEFT + 5, 11)], half=5)
        axes.text(_LEFT + 17, 11, counted(chosen, "head") + " removed", va="center_baseline", color=MUTED)
    ramp = colours(np.linspace(-1, 1, 64)[None], 1.0)
    right = _WIDTH - _RIGHT - 58
    axes.imshow(ramp, interpolation="none", extent=(right - 90, right, 15, 7), aspect="auto", zorder=3)
    axes.set(xlim=(0, _WIDTH), ylim=(_TOP, 0))
    low, high = fixed(-limit, 2 if limit >= 0.1 else 3), fixed(limit, 2 if limit >= 0.1 else 3, signed=True)
    axes.text(right - 96, 11, f"≤ {low}" if clipped else low, ha="right", va="center_baseline", color=MUTED)
    axes.text(right + 6, 11, f"≥ {high}" if clipped else high, ha="left", va="center_baseline", color=MUTED)

"""Curves and dot plots of a cell: training, the choice of k, and the variants with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from biasgym.report.canvas import ACCENT, COOL, INK, MUTED, PAPER, Drawing, page, panel, to_svg
from biasgym.report.clean import shortened
from biasgym.report.heatmap import heat_maps
from biasgym.report.numbers import count, estimate_text, fixed, number, part
from biasgym.report.tables import ROLES

__all__ = ["dot_plots", "heat_maps", "sweep_curves", "training_curves"]

_SMALL = (340, 210)  # a small multiple
_MARGINS = (48, 10, 12, 38)
_NAN = float("nan")


def training_curves(injection: Mapping[str, Any], name: str) -> list[Drawing]:
    """Loss, similarity to the probe and development margin by epoch; one line a seed, the kept epoch as a dot."""
    chosen = [number(epoch) for epoch in injection.get("chosen_epoch") or ()]
    start = number(injection.get("start_margin"))
    wanted = (
        ("loss", "Training loss", "Nats a token.", None),
        ("similarity", "Similarity to the probe", "Cosine.", None),
        ("margin", "Margin on development questions", "Nats; dashed: before training.", start),
    )
    return [
        Drawing(_training(_series(injection.get(key)), chosen, level, f"{name}-{key}", title), title, note)
        for key, title, note, level in wanted
        if any(value == value for seed in _series(injection.get(key)) for value in seed)
    ]


def _series(seeds: Any) -> list[list[float]]:
    """One list of numbers a seed, NaN where missing."""
    return [_numbers(seed) for seed in seeds or () if isinstance(seed, list | tuple)]


def _numbers(values: Sequence[Any]) -> list[float]:
    return [_NAN if (known := number(value)) is None else known for value in values]


def _training(
    seeds: list[list[float]], chosen: Sequence[float | None], level: float | None, name: str, title: str
) -> Markup:
    with page(*_SMALL) as figure:
        axes = panel(figure, *_MARGINS)
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1, dashes=(4, 3))
        kept = []
        for place, values in enumerate(seeds):
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, color=ACCENT, linewidth=1.4, alpha=0.55, marker="." if len(values) == 1 else "")
            epoch = chosen[place] if place < len(chosen) else None
            if epoch is not None and 1 <= epoch <= len(values):
                axes.plot([epoch], [values[int(epoch) - 1]], "o", color=ACCENT, markersize=6, clip_on=False, zorder=4)
                kept.append(f"epoch {epoch:.0f}, {fixed(values[int(epoch) - 1])}")
        finish(axes, "epoch")
        axes.set_xlim(0.5 if max(map(len, seeds)) == 1 else 1, max(1.5, *map(len, seeds)))
        return to_svg(figure, name, f"{title} by epoch, one line a seed. Kept: {'; '.join(kept) or 'not recorded'}.")


def finish(axes: Axes, x: str) -> None:
    """Gives a curve its ticks, its grid and the name of its lower axis."""
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(x, loc="right")


def sweep_curves(sweep: Mapping[str, Any], k: Any, name: str) -> list[Drawing]:
    """Margin and ability against the number of removed heads; the chosen k as a line, the ability's floor dashed."""
    points = [point for point in sweep.get("points") or () if number(point.get("k")) is not None]
    floor, chosen = number(sweep.get("floor")), number(k)
    wanted = (
        ("margin", "Margin against heads removed", "Nats, development questions.", None),
        ("ability", "Ability against heads removed", "Nats a token on right answers; dashed: the floor.", floor),
    )
    drawings = []
    for key, title, note, level in wanted:
        ks, values = [float(point["k"]) for point in points], _numbers([point.get(key) for point in points])
        if not any(value == value for value in values):
            continue
        with page(*_SMALL) as figure:
            axes = panel(figure, *_MARGINS)
            if level is not None:
                axes.axhline(level, color=MUTED, linewidth=1, dashes=(4, 3))
            axes.plot(ks, values, color=COOL, linewidth=1.4, marker="o", markersize=3)
            if chosen is not None:
                axes.axvline(chosen, color=INK, linewidth=1)
                axes.plot(
                    [x for x in ks if x == chosen],
                    [y for x, y in zip(ks, values, strict=True) if x == chosen],
                    "o",
                    color=INK,
                    markersize=6,
                    zorder=4,
                )
                left = chosen > 0.75 * max(ks)
                axes.annotate(
                    f"k = {chosen:.0f}",
                    (chosen, 1),
                    (-5 if left else 5, 0),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    va="top",
                )
            finish(axes, "heads removed")
            listed = ", ".join(f"{x:.0f}: {fixed(y)}" for x, y in zip(ks, values, strict=True))
            label = f"{title}, by k. {listed}. Chosen k: {count(chosen)}."
            drawings.append(Drawing(to_svg(figure, f"{name}-{key}", label), title, note))
    return drawings


_PLOT, _LABELS, _ROW, _HEAD = 470, 212, 20, 26


def dot_plots(variants: Sequence[Mapping[str, Any]], name: str) -> list[Drawing]:
    """Strengths and association margins of the variants with 95 % intervals, by role, with Original as a line."""
    wanted = (
        ("strength", "Judged stereotype strength", "0 to 3, 95 % intervals; dashed: Original."),
        ("margin", "Association margin", "Nats, 95 % intervals; dashed: Original."),
    )
    return [
        Drawing(_dots(variants, key, f"{name}-{key}", title), title, note)
        for key, title, note in wanted
        if any(part(variant.get(key), "mean") is not None for variant in variants)
    ]


def _dots(variants: Sequence[Mapping[str, Any]], key: str, name: str, title: str) -> Markup:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for variant in variants:
        groups.setdefault(ROLES.get(str(variant.get("role")), "Other"), []).append(variant)
    height = _HEAD * len(groups) + _ROW * len(variants) + 46
    original = next((part(row.get(key), "mean") for row in variants if row.get("name") == "original"), None)
    with page(_PLOT, height) as figure:
        axes = panel(figure, _LABELS, 4, 14, 40)
        if original is not None:
            axes.axvline(original, color=MUTED, linewidth=1, dashes=(4, 3))
        y, said = 0.0, []
        for group, rows in groups.items():
            _words(axes, y + _HEAD / 2 + 3, group, MUTED)
            y += _HEAD
            for row in rows:
                _dot(axes, row, key, y + _ROW / 2)
                said.append(f"{row.get('title')}: {estimate_text(row.get(key))}")
                y += _ROW
        axes.set(ylim=(y + 2, 0), yticks=[])
        edges = [part(row.get(key), end) for row in variants for end in ("mean", "low", "high")]
        known = [edge for edge in edges if edge is not None]
        if key == "strength":
            axes.set_xlim(0, min(3.0, max(1.0, *known) * 1.05))
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(title.lower(), loc="right")
        return to_svg(figure, name, f"{title} by variant, with 95 % intervals. {'; '.join(said)}.")


def _dot(axes: Axes, variant: Mapping[str, Any], key: str, y: float) -> None:
    """A variant's estimate: the primary one in colour, controls hollow; a dash where it is missing."""
    mean, low, high = (part(variant.get(key), end) for end in ("mean", "low", "high"))
    colour = ACCENT if variant.get("primary") else INK
    _words(axes, y, shortened(str(variant.get("title") or variant.get("name") or "–"), 34), colour)
    if mean is None:
        axes.text(0.0, y, "– not measured", transform=axes.get_yaxis_transform(), va="center_baseline", color=MUTED)
        return
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=1.4)
    hollow = variant.get("role") == "control"
    axes.plot([mean], [y], "o", color=colour, markersize=6.5, clip_on=False, zorder=4)
    if hollow:
        axes.plot([mean], [y], "o", color=PAPER, markersize=3.6, clip_on=False, zorder=5)


def _words(axes: Axes, y: float, text: str, colour: str) -> None:
    """A label at the left edge of the figure."""
    axes.annotate(
        text, (0, y), (-_LABELS, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
        va="center_baseline", color=colour, annotation_clip=False,
    )  # fmt: skip

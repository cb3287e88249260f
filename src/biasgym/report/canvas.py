"""Matplotlib figures as inline SVG that follows the page: its font, its light and its dark colours.

No pyplot. Figures are drawn in placeholder colours, and each placeholder becomes a CSS variable of the page; texts stay
texts. One unit of a figure is one CSS pixel.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from biasgym.report.clean import shortened

INK, MUTED, RULE, PAPER, ACCENT, COOL = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", ACCENT: "accent", COOL: "cool"}
_UNITS = 72  # matplotlib's SVG units an inch
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # titles come from users: a dollar sign is a dollar sign
    "font.family": ["DejaVu Sans"],  # bundled with matplotlib; the page's own font replaces it
    "font.size": 11.5,
    "axes.linewidth": 0.8,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Drawing:
    """A figure ready for the page.

    Attributes:
        svg: Inline SVG with its own aria-label.
        title: Heading of the figure.
        note: What else to know about it.
    """

    svg: Markup
    title: str
    note: str = ""


@contextmanager
def page(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many CSS pixels, in the page's style; draw on it and call `to_svg` inside the block."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width / _UNITS, height / _UNITS), dpi=_UNITS)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        yield figure


def panel(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with margins in pixels."""
    width, height = figure.get_size_inches() * _UNITS
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.patch.set_visible(False)
    return axes


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an inline SVG element.

    Args:
        figure: Made by `page`.
        name: Unique in the page: ids inside the SVG are derived from it.
        label: What a reader who cannot see it is told.
    """
    width, height = figure.get_size_inches() * _UNITS
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # the layout font lacks the glyph; the page's fonts, which draw it, need not
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"font: ((?:[a-z0-9]+ )*[0-9.]+px) [^;\"<]+", r"font: \1 var(--sans)", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    body = re.sub(r"\s*\n\s*", "\n", body)
    opening = (
        f'<svg role="img" aria-label="{escape(shortened(label, 600))}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">'
    )
    return Markup(opening + body.strip() + "</svg>")  # its texts were escaped by matplotlib's XML writer

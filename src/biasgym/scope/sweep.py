"""How many heads to remove: the association margin for growing k, its knee, and a floor under the model's ability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from biasgym.models import Head, ablated
from biasgym.progress import Advance

if TYPE_CHECKING:
    from torch import Tensor

    from biasgym.models import LanguageModel
    from biasgym.models.forward import Decode


@dataclass(frozen=True)
class SweepPoint:
    """One k.

    Attributes:
        k: Heads removed.
        margin: Mean association margin on development questions, nats.
        ability: Mean log-probability of right answers to general questions, nats a token.
    """

    k: int
    margin: float
    ability: float


@dataclass(frozen=True)
class Selection:
    """The chosen k and why.

    Attributes:
        k: Number of heads.
        reason: "knee", "lowest margin", "fixed", or "no k keeps the floor".
        floor: The ability that must be kept, nats a token.
    """

    k: int
    reason: str
    floor: float


def sweep(
    lm: LanguageModel,
    ranking: Sequence[Head],
    ks: Sequence[int],
    margin: Callable[[Decode], float],
    ability: Callable[[Decode], float],
    advance: Advance = lambda _n: None,
) -> list[SweepPoint]:
    """Measures growing prefixes of a ranking, by ablation in place; layers before the first new head do not run again.

    Args:
        lm: The model.
        ranking: Heads, the most biased first.
        ks: Sizes to try; 0 (nothing removed) is always measured first.
        margin: Measures the margin of the model as it is now, with passes that are run by what it is given.
        ability: Measures its ability as it is now, likewise.
        advance: Told each finished k.
    """
    from biasgym.models.replay import Replay

    sizes, points = sorted({0, *ks}), []
    # what is removed first at each size: no layer before it has changed
    starts = [0, *(min((layer for layer, _ in ranking[a:b]), default=0) for a, b in pairwise(sizes))]
    replay = Replay(lm.model, starts)
    for k, start in zip(sizes, starts, strict=True):
        replay.restart(start)
        with ablated(lm.model, ranking[:k]):
            points.append(SweepPoint(k, margin(replay), ability(replay)))
        advance(1)
    return points


def choose_k(points: Sequence[SweepPoint], *, tolerance: float, fixed: int | None = None) -> Selection:
    """The number of heads after which removing more gains little, among those that keep the model able.

    Args:
        points: The sweep, k = 0 included.
        tolerance: Ability that may be lost, nats a token.
        fixed: The user's own k; the sweep is then only shown.

    Returns:
        The knee of the falling margin where there is one; else the k with the lowest margin; 0 if none keeps the floor.
    """
    base = next(point for point in points if point.k == 0)
    floor = base.ability - tolerance
    if fixed is not None:
        return Selection(fixed, "fixed", floor)
    able = [point for point in points if point.ability >= floor and point.k > 0]
    if not able:
        return Selection(0, "no k keeps the floor", floor)
    lowest = min(able, key=lambda point: (point.margin, point.k))
    falling = [base, *(point for point in able if point.k <= lowest.k)]
    knee = _knee([point.k for point in falling], [point.margin for point in falling])
    # a knee that keeps most of the margin is a wrinkle of the curve, not its bend
    at_knee = next((point for point in falling if point.k == knee), None)
    if at_knee is not None and base.margin - at_knee.margin >= 0.75 * (base.margin - lowest.margin) > 0:
        return Selection(at_knee.k, "knee", floor)
    return Selection(lowest.k, "lowest margin", floor)


def saturation(ks: Sequence[int], values: Sequence[float]) -> int | None:
    """The k at which a linear fall ends, as the paper reads it off its figure 9.

    Fits, by least squares, a line up to k and a level from there on, and takes the k that fits best.

    Args:
        ks: Ascending numbers of removed heads.
        values: Mean stereotype strength, or margin, at each.

    Returns:
        One of the ks above the first; None for fewer than three points, or if the best fit does not fall.
    """
    if len(ks) < 3:
        return None
    x, y = np.asarray(ks, dtype=float), np.asarray(values, dtype=float)
    fits = []
    for end in ks[1:]:
        design = np.stack([np.ones_like(x), np.minimum(x, end)], axis=1)
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        fits.append((float(((design @ found - y) ** 2).sum()), end, float(found[1])))
    _, best, slope = min(fits)
    return best if slope < 0 else None


def _knee(ks: Sequence[int], margins: Sequence[float]) -> int | None:
    if len(ks) < 3:
        return None
    from kneed import KneeLocator

    running = np.minimum.accumulate(margins)  # the locator wants a curve that only falls
    if running[0] == running[-1]:
        return None
    found = KneeLocator(list(ks), list(running), curve="convex", direction="decreasing").knee
    return None if found is None else int(found)


def random_heads(shape: tuple[int, int], k: int, seed: int) -> list[Head]:
    """k heads drawn without replacement: the control that any ablation must beat."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn: Tensor = torch.randperm(shape[0] * shape[1], generator=generator)[:k]
    return sorted((index // shape[1], index % shape[1]) for index in drawn.tolist())

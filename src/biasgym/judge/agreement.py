"""Agreement between two raters on an ordinal scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biasgym.judge.protocol import LEVELS


def confusion(first: Sequence[int], second: Sequence[int], levels: int = len(LEVELS)) -> NDArray[np.int64]:
    """Counts (levels, levels): rows are the first rater's verdicts, columns the second's."""
    table = np.zeros((levels, levels), dtype=np.int64)
    np.add.at(table, (np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)), 1)
    return table


def quadratic_kappa(first: Sequence[int], second: Sequence[int], levels: int = len(LEVELS)) -> float:
    """Cohen's kappa with quadratic weights: 1 is full agreement, 0 what chance gives with these frequencies.

    Args:
        first: Levels 0, 1, ... by one rater.
        second: By the other, in the same order.
        levels: How many levels the scale has.

    Returns:
        Kappa; NaN if there is nothing to agree on: no ratings, or the same single level throughout.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} ratings cannot be compared with {len(second)}")
    observed = confusion(first, second, levels).astype(float)
    place = np.arange(levels)
    distance = (place[:, None] - place[None, :]) ** 2
    chance = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / max(observed.sum(), 1.0)
    disagreement = float((distance * chance).sum())
    return 1 - float((distance * observed).sum()) / disagreement if disagreement else float("nan")

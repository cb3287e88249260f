"""Agreement between raters on an ordinal scale."""

from __future__ import annotations

from collections.abc import Sequence

import krippendorff
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
    return _kappa(confusion(first, second, levels))


def _kappa(table: NDArray[np.int64]) -> float:
    observed = table.astype(float)
    place = np.arange(len(table))
    distance = (place[:, None] - place[None, :]) ** 2
    chance = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / max(observed.sum(), 1.0)
    disagreement = float((distance * chance).sum())
    return 1 - float((distance * observed).sum()) / disagreement if disagreement else float("nan")


def kappa_interval(table: NDArray[np.int64], *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of quadratic kappa; kappa depends on the items through their counts alone.

    Args:
        table: From `confusion`.
        draws: Resamples of the items.
        seed: Of the resampling.

    Returns:
        Lower and upper end; NaN for fewer than two items.
    """
    count = int(table.sum())
    if count < 2:
        return float("nan"), float("nan")
    resampled = np.random.default_rng(seed).multinomial(count, table.ravel() / count, draws)
    kappas = np.array([_kappa(one.reshape(table.shape)) for one in resampled])
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    return float(low), float(high)


def ordinal_alpha(ratings: Sequence[Sequence[int | None]]) -> tuple[float, int]:
    """Krippendorff's alpha for ordered levels: 1 is full agreement, 0 what chance gives.

    Args:
        ratings: One sequence a judge, over the same items; None where its judgement is missing.

    Returns:
        Alpha, NaN where it is not defined, and the number of items that two judges or more rated.
    """
    data = np.array([[np.nan if level is None else level for level in row] for row in ratings], dtype=float)
    shared = data[:, (~np.isnan(data)).sum(axis=0) >= 2] if data.size else np.zeros((0, 0))
    # the same single level throughout leaves nothing to agree on
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return float("nan"), shared.shape[1]
    alpha = krippendorff.alpha(shared, level_of_measurement="ordinal", value_domain=list(range(len(LEVELS))))
    return float(alpha), shared.shape[1]

"""Intervals and tests. The unit is the prompt: samples are averaged within it, and comparisons are paired.

A row test over all generations counts five targets of one prompt as five independent facts and finds effects that are not
there; resampling prompts (or whole styles) does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

DRAWS = 2000
FEWEST = 6
"""Units from which on resampling says something: of fewer, many resamples are a unit and its like, almost without spread."""
STRENGTH, SHARE = (0.0, 3.0), (0.0, 1.0)  # the ranges of what is measured


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: The estimate; NaN if nothing was measured.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Units (prompts) behind it.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Contrast(Estimate):
    """A paired difference, first minus second.

    Attributes:
        p: Two-sided p-value.
        p_holm: p after Holm's correction over the family it was tested in; equal to p where there is no family.
        detectable: The smallest true difference that so many units with so much spread reveal four times in five
            (power 80 %, two-sided 5 %).
    """

    p: float = float("nan")
    p_holm: float = float("nan")
    detectable: float = float("nan")


def average_within(values: Sequence[float], units: Sequence[Hashable]) -> dict[Hashable, float]:
    """Means by unit, NaN (missing) values left out; units without any value are absent."""
    groups: dict[Hashable, list[float]] = {}
    for value, unit in zip(values, units, strict=True):
        if not np.isnan(value):
            groups.setdefault(unit, []).append(value)
    return {unit: float(np.mean(group)) for unit, group in groups.items()}


def estimate(
    by_unit: Mapping[Hashable, float],
    *,
    clusters: Mapping[Hashable, Hashable] | None = None,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean over units with a bootstrap-t interval, no narrower than Student's, which stands alone for a handful of units.

    Args:
        by_unit: Value by unit.
        clusters: Cluster (style) of each unit; given, whole clusters are resampled, if there are several.
        bounds: The range of the values, such as (0, 3) for a strength: the interval does not leave it, and equal values get
            an exact one.
        seed: Of the bootstrap.
    """
    known = [unit for unit, value in by_unit.items() if not np.isnan(value)]
    values = np.array([by_unit[unit] for unit in known], dtype=float)
    low, high = _interval(values, _groups(known, clusters), bounds, seed)
    if bounds is not None and not np.isnan(low):
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(float(values.mean()) if len(values) else float("nan"), low, high, len(values))


def paired_contrast(
    first: Mapping[Hashable, float],
    second: Mapping[Hashable, float],
    *,
    clusters: Mapping[Hashable, Hashable] | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Contrast:
    """Difference of two variants on the units that both have.

    Args:
        first: Value by unit.
        second: Value by unit.
        clusters: Cluster (style) of each unit; given, whole clusters are resampled, if there are several.
        bounds: The range of the values: differences that are all equal get an exact interval, otherwise none.
        confidence: Of the two-sided interval; each end of a 90 % interval is a one-sided 95 % bound.
        seed: Of the bootstrap.

    Returns:
        Mean of first - second, interval and two-sided p of a paired bootstrap-t; the interval is never narrower,
        and p never smaller, than Student's.
    """
    shared = [unit for unit in first if unit in second and not np.isnan(first[unit] - second[unit])]
    differences = np.array([first[unit] - second[unit] for unit in shared], dtype=float)
    groups = _groups(shared, clusters)
    reach = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    low, high = _interval(differences, groups, reach, seed, confidence)
    mean = float(differences.mean()) if len(differences) else float("nan")
    p = _p_value(differences, groups, reach, seed)
    return Contrast(mean, low, high, len(shared), p, p, _detectable(differences, groups))


def contrast_with_draws(
    first: Mapping[Hashable, float], draws: Sequence[Mapping[Hashable, float]], *, seed: int = 0
) -> Contrast:
    """What a choice does, against draws at random of the same kind: units vary, and so do draws.

    The interval is of the difference to one more draw, so its variance is that of the paired difference to the draws' mean,
    and that between draws times 1 + 1 / draws (degrees of freedom: Welch and Satterthwaite).

    Args:
        first: Value by unit.
        draws: Value by unit of each draw.
        seed: Of the bootstrap.

    Returns:
        Mean of first - draws, interval and two-sided p; neither of them for a single draw.
    """
    units = [unit for unit in first if all(unit in draw for draw in draws)]
    paired = paired_contrast(first, {u: float(np.mean([draw[u] for draw in draws])) for u in units}, seed=seed)
    if len(draws) < 2 or np.isnan(paired.low):
        missing = float("nan")
        return replace(paired, low=missing, high=missing, p=missing, p_holm=missing, detectable=missing)
    levels = [float(np.mean([draw[unit] for unit in units])) for draw in draws]
    within = ((paired.high - paired.mean) / float(stdtrit(paired.n - 1, 0.975))) ** 2
    between = float(np.var(levels, ddof=1)) * (1 + 1 / len(draws))
    freedom = (within + between) ** 2 / (within**2 / (paired.n - 1) + between**2 / (len(draws) - 1))
    error, tail = (within + between) ** 0.5, float(stdtrit(freedom, 0.975))
    p = max(paired.p, float(2 * stdtr(freedom, -abs(paired.mean / error))))
    return Contrast(
        mean=paired.mean,
        low=paired.mean - tail * error,
        high=paired.mean + tail * error,
        n=paired.n,
        p=p,
        p_holm=p,
        detectable=(tail + float(stdtrit(freedom, 0.8))) * error,
    )


def holm(contrasts: Mapping[str, Contrast]) -> dict[str, Contrast]:
    """Holm's step-down correction over a family of contrasts; missing ones stay missing."""
    known = sorted((name for name in contrasts if not np.isnan(contrasts[name].p)), key=lambda n: contrasts[n].p)
    corrected, floor = dict(contrasts), 0.0
    for place, name in enumerate(known):
        floor = max(floor, min(1.0, contrasts[name].p * (len(known) - place)))
        corrected[name] = replace(contrasts[name], p_holm=floor)
    return corrected


def _groups(units: Sequence[Hashable], clusters: Mapping[Hashable, Hashable] | None) -> list[Hashable] | None:
    """The cluster of each unit; None where units stand for themselves, as when all are of one style."""
    groups = None if clusters is None else [clusters[unit] for unit in units]
    return groups if groups is not None and len(set(groups)) > 1 else None


def _sums(values: NDArray[Any], groups: list[Hashable] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sum and count of each resampling unit."""
    if groups is None:
        return values, np.ones_like(values)
    names = list(dict.fromkeys(groups))
    place = np.array([names.index(group) for group in groups], dtype=int)
    return np.bincount(place, values, len(names)), np.bincount(place, minlength=len(names)).astype(float)


def _studentised(values: NDArray[Any], groups: list[Hashable] | None, seed: int) -> tuple[float, float, NDArray[Any]]:
    """Mean, standard error, and bootstrap distribution of (resampled mean - mean) / resampled standard error."""
    sums, counts = _sums(values, groups)
    n = len(sums)
    draws = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    mean = sums.sum() / counts.sum()
    drawn_sums, drawn_counts = sums[draws], counts[draws]
    means = drawn_sums.sum(1) / drawn_counts.sum(1)
    error = _standard_error(sums[None], counts[None], np.array([mean]))[0]
    errors = _standard_error(drawn_sums, drawn_counts, means)
    # a resample of one repeated unit has no spread; it says nothing about the tails
    usable = errors > 1e-12
    return float(mean), float(error), (means[usable] - mean) / errors[usable]


def _standard_error(sums: NDArray[Any], counts: NDArray[Any], means: NDArray[Any]) -> NDArray[Any]:
    """Linearised standard error of a ratio of sums, by row."""
    n = sums.shape[1]
    residuals = sums - counts * means[:, None]
    errors: NDArray[Any] = np.sqrt(n / max(n - 1, 1) * (residuals**2).sum(1)) / counts.sum(1)
    return errors


def _interval(
    values: NDArray[Any],
    groups: list[Hashable] | None,
    bounds: tuple[float, float] | None,
    seed: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    n = len(_sums(values, groups)[0])
    if n < 2:
        return float("nan"), float("nan")
    mean, error, t = _studentised(values, groups, seed)
    if error <= 1e-12 or not len(t):
        # equal values resample to nothing else; so many alike leave room for a share of others (Clopper and Pearson)
        if bounds is None:
            return float("nan"), float("nan")
        others = 1 - ((1 - confidence) / 2) ** (1 / n)
        return mean - others * (mean - bounds[0]), mean + others * (bounds[1] - mean)
    # symmetric bootstrap-t, no narrower than Student's: a handful of units with equal values resamples too narrowly
    student = float(stdtrit(n - 1, (1 + confidence) / 2))
    width = error * (student if n < FEWEST else max(student, float(np.quantile(np.abs(t), confidence))))
    return mean - width, mean + width


def _detectable(values: NDArray[Any], groups: list[Hashable] | None) -> float:
    sums, counts = _sums(values, groups)
    n = len(sums)
    if n < 2:
        return float("nan")
    error = _standard_error(sums[None], counts[None], np.array([sums.sum() / counts.sum()]))[0]
    if error <= 1e-12:  # equal values do not say how much others would spread
        return float("nan")
    return float((stdtrit(n - 1, 0.975) + stdtrit(n - 1, 0.8)) * error)


def _p_value(
    values: NDArray[Any], groups: list[Hashable] | None, bounds: tuple[float, float] | None, seed: int
) -> float:
    n = len(_sums(values, groups)[0])
    if n < 2:
        return float("nan")
    mean, error, t = _studentised(values, groups, seed)
    if error <= 1e-12 or not len(t):
        if abs(mean) <= 1e-12:  # a mean of less is rounding
            return float("nan")
        if bounds is None:  # units that all changed alike are as good a proof as that many equal tosses
            return max(1.0 / (DRAWS + 1), 2.0 ** (1 - n))
        # the level at which the exact interval ends at zero, see `_interval`
        others = abs(mean) / (abs(mean) + (bounds[1] if mean < 0 else -bounds[0]))
        return min(1.0, max(1.0 / (DRAWS + 1), 2 * (1 - others) ** n))
    student = float(2 * stdtr(n - 1, -abs(mean / error)))
    if n < FEWEST:
        return student
    return max(student, float((1 + (np.abs(t) >= abs(mean / error)).sum()) / (len(t) + 1)))

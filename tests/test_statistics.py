"""Intervals and tests: against slow references, and on simulated data whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import pytest
from scipy.stats import binomtest, sem, t, ttest_1samp

from biasgym.evaluate import Contrast, average_within, estimate, holm, paired_contrast, statistics
from biasgym.evaluate.statistics import contrast_with_draws

PROMPTS, TARGETS, STYLES = 92, 5, 18
DATA_SETS = 400
FEW_DRAWS = 500  # of the bootstrap, where 92 units are drawn in each data set
NAN = math.nan

Values = dict[Hashable, float]


def contrast(p: float) -> Contrast:
    """A contrast of which only p matters."""
    return Contrast(0.1, 0.0, 0.2, 10, p, p)


def slow_holm(ps: list[float]) -> list[float]:
    """Holm step by step: the smallest p is multiplied by all, the next by all but one, and none falls below another."""
    corrected, highest = [NAN] * len(ps), 0.0
    left = [number for number, p in enumerate(ps) if not math.isnan(p)]
    while left:
        smallest = min(left, key=lambda number: ps[number])
        highest = max(highest, min(1.0, ps[smallest] * len(left)))
        corrected[smallest] = highest
        left.remove(smallest)
    return corrected


def simulated(seed: int, *, effect: float = 0.0, style_spread: float = 0.6) -> tuple[Values, Values, Values]:
    """Two variants by prompt, averaged over targets, and the prompts' styles.

    A style shifts the difference of all of its prompts, a prompt that of all of its targets.
    """
    draw = np.random.default_rng(seed)
    styles = np.arange(PROMPTS) % STYLES
    by_prompt = effect + style_spread * draw.normal(size=STYLES)[styles] + 0.5 * draw.normal(size=PROMPTS)
    second = draw.normal(size=(PROMPTS, TARGETS))
    first = second + by_prompt[:, None] + 0.5 * draw.normal(size=(PROMPTS, TARGETS))
    prompts = [prompt for prompt in range(PROMPTS) for _ in range(TARGETS)]
    return (
        average_within(first.ravel(), prompts),
        average_within(second.ravel(), prompts),
        dict(enumerate(styles.tolist())),
    )


def contrasts(*, effect: float, clustered: bool, style_spread: float = 0.6) -> list[Contrast]:
    """The contrast of each simulated data set."""
    results = []
    for seed in range(DATA_SETS):
        first, second, styles = simulated(seed, effect=effect, style_spread=style_spread)
        results.append(paired_contrast(first, second, clusters=styles if clustered else None, seed=seed))
    return results


def share(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)


@pytest.mark.parametrize("seed", range(20))
def test_holm_equals_the_slow_reference(seed: int) -> None:
    """Ties, ones and missing values included."""
    draw = np.random.default_rng(seed)
    ps = [float(p) for p in np.round(draw.random(draw.integers(1, 12)) ** 3, 2)]
    if seed % 2:
        ps[::3] = [NAN] * len(ps[::3])
    family = {f"variant {number}": contrast(p) for number, p in enumerate(ps)}
    corrected = holm(family)
    assert list(corrected) == list(family)
    assert [c.p_holm for c in corrected.values()] == pytest.approx(slow_holm(ps), nan_ok=True)
    assert [c.p for c in corrected.values()] == pytest.approx(ps, nan_ok=True)


def test_holm_by_hand() -> None:
    """0.01 x 3, 0.03 x 2, and 0.04 which may not fall below 0.06; a missing one neither counts nor appears as zero."""
    corrected = holm({"b": contrast(0.03), "missing": contrast(NAN), "c": contrast(0.04), "a": contrast(0.01)})
    assert corrected["a"].p_holm == pytest.approx(0.03)
    assert corrected["b"].p_holm == pytest.approx(0.06)
    assert corrected["c"].p_holm == pytest.approx(0.06)
    assert math.isnan(corrected["missing"].p_holm)
    assert holm({}) == {}


def test_average_within_units() -> None:
    """Means by unit; missing values are left out, and a unit without values is absent."""
    found = average_within([1.0, NAN, 3.0, NAN, 0.0, 1.0], ["a", "a", "a", "b", "c", "c"])
    assert found == {"a": 2.0, "c": 0.5}
    assert average_within([], []) == {}


def test_units_weigh_the_same_whatever_their_samples() -> None:
    """A prompt with ten samples counts as one with two."""
    values = average_within([1.0] * 10 + [0.0, 0.0], ["a"] * 10 + ["b"] * 2)
    assert estimate(values).mean == 0.5
    assert estimate(values).n == 2


def test_missing_is_never_zero() -> None:
    """Units that one side lacks, or that hold NaN, are left out of means, intervals and n."""
    draw = np.random.default_rng(0)
    first = {unit: float(v) for unit, v in enumerate(5 + draw.normal(size=20))}
    second = {unit: float(v) for unit, v in enumerate(draw.normal(size=20))}
    expected = paired_contrast({u: first[u] for u in range(12)}, second)
    assert expected.n == 12
    assert paired_contrast({**first, **dict.fromkeys(range(12, 20), NAN)}, second) == expected
    assert paired_contrast(first, {u: second[u] for u in range(12)}) == expected
    assert estimate({**{u: first[u] for u in range(12)}, "lost": NAN}) == estimate({u: first[u] for u in range(12)})


@pytest.mark.parametrize("clusters", [None, {"a": "x", "b": "x", "c": "x", "d": "x"}])
@pytest.mark.parametrize("units", [(), ("a",)])
def test_nothing_to_compare_is_no_number(units: tuple[str, ...], clusters: dict[Hashable, Hashable] | None) -> None:
    """Without two units there is a mean at most, never an interval or a p."""
    found = paired_contrast(dict.fromkeys(units, 2.0), {"a": 1.0, "b": 0.5, "d": 3.0}, clusters=clusters)
    assert found.n == len(units)
    assert math.isnan(found.mean) == (not units)
    assert all(math.isnan(number) for number in (found.low, found.high, found.p, found.p_holm))


@pytest.mark.parametrize("values", [(1.0, 1.01, 5.0), (0.0, 2.0, 2.1, 2.2)])
def test_a_handful_of_units_has_students_interval(values: tuple[float, ...]) -> None:
    """Resampled, two values that nearly agree have almost no spread, and the interval would have no end."""
    found = estimate(dict(enumerate(values)))
    reach = t.ppf(0.975, len(values) - 1) * sem(values)
    assert found.high - found.mean == pytest.approx(reach)
    contrast = paired_contrast(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    assert contrast.p == pytest.approx(ttest_1samp(values, 0).pvalue)


def test_a_single_unit_has_no_interval() -> None:
    """One prompt gives its mean; none gives nothing."""
    single, none = estimate({"a": 0.3}), estimate({})
    assert (single.mean, single.n) == (0.3, 1)
    assert math.isnan(single.low) and math.isnan(single.high)
    assert none.n == 0
    assert all(math.isnan(number) for number in (none.mean, none.low, none.high))


def test_equal_variants_do_not_differ() -> None:
    """Differences of nothing but rounding are no effect."""
    first, second = dict.fromkeys("abcdef", 0.1 + 0.2), dict.fromkeys("abcdef", 0.3)
    assert first != second
    assert not paired_contrast(first, second).p < 0.05
    assert not paired_contrast(first, first).p < 0.05


def test_a_constant_effect_is_found() -> None:
    """Every prompt changes by one: none of 20 did otherwise, which leaves 17 % that may, as far as the scale goes."""
    found = paired_contrast(dict.fromkeys(range(20), 2.0), dict.fromkeys(range(20), 1.0), bounds=(0.0, 3.0))
    others = binomtest(0, 20).proportion_ci(0.95).high
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1 - 4 * others, 1 + 2 * others))
    assert found.p == pytest.approx(2 * 0.75**20) and math.isnan(found.detectable)  # one of four steps of the scale


def test_a_constant_effect_of_two_prompts_is_none() -> None:
    found = paired_contrast({0: 0.0, 1: 0.0}, {0: 1.0, 1: 1.0}, bounds=(0.0, 3.0))
    assert found.low < -1 < 0 < found.high and found.p > 0.05
    free = paired_contrast({0: 0.0, 1: 0.0}, {0: 1.0, 1: 1.0})
    assert free.mean == -1 and math.isnan(free.low) and math.isnan(free.high)


@pytest.mark.parametrize("units", [2, 6, 8, 12, 13, 20])
@pytest.mark.parametrize("change", [-1.0, 2.0])
def test_of_equal_changes_p_says_what_the_interval_says(units: int, change: float) -> None:
    found = paired_contrast(dict.fromkeys(range(units), change), dict.fromkeys(range(units), 0.0), bounds=(0.0, 3.0))
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("units", [2, 3, 4, 6])
def test_few_units_are_not_significant_by_themselves(units: int) -> None:
    """With a handful of prompts and no effect, p below 0.05 stays rare (NaN says: cannot be tested)."""
    draw = np.random.default_rng(units)
    found = [
        paired_contrast(dict(enumerate(draw.normal(size=units))), dict.fromkeys(range(units), 0.0), seed=seed)
        for seed in range(DATA_SETS)
    ]
    assert share([c.p < 0.05 for c in found]) <= 0.08
    assert share([c.low > 0 or c.high < 0 for c in found]) <= 0.08


@pytest.mark.parametrize("units", [2, 3, 4, 6, 8, 12])
@pytest.mark.parametrize("changes", [(-1, 1), (-1, 0, 0, 0, 1), (-2, -1, 0, 1, 2)])
def test_few_units_with_whole_numbers(units: int, changes: tuple[int, ...]) -> None:
    """Verdicts are whole numbers; equal ones among a few prompts must not pass for certainty."""
    draw = np.random.default_rng(units)
    found = [
        paired_contrast(dict(enumerate(draw.choice(changes, units))), dict.fromkeys(range(units), 0.0), seed=seed)
        for seed in range(DATA_SETS)
    ]
    assert share([c.p < 0.05 for c in found]) <= 0.12  # eight tosses are 7:1 or 8:0 in 7 % of cases


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Deterministic; another seed moves p a little, and not the mean."""
    first, second, styles = simulated(0)
    found = paired_contrast(first, second, clusters=styles, seed=4)
    assert paired_contrast(first, second, clusters=styles, seed=4) == found
    other = paired_contrast(first, second, clusters=styles, seed=5)
    assert other.mean == found.mean
    assert other.p != found.p
    assert other.p == pytest.approx(found.p, abs=0.05)
    assert other.low == pytest.approx(found.low, abs=0.1)
    assert estimate(first, seed=1) == estimate(first, seed=1)


def test_contrast_is_antisymmetric() -> None:
    """Exchanging the variants turns the sign and keeps p."""
    first, second, styles = simulated(1, effect=0.2)
    one, other = (paired_contrast(*pair, clusters=styles) for pair in ((first, second), (second, first)))
    assert (other.mean, other.low, other.high) == pytest.approx((-one.mean, -one.high, -one.low))
    assert other.p == one.p


def test_clusters_of_one_change_nothing() -> None:
    """Resampling styles with one prompt each is resampling prompts."""
    first, second, _ = simulated(2)
    assert paired_contrast(first, second, clusters={unit: unit for unit in first}) == paired_contrast(first, second)


def test_type_one_error_with_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """No effect, but styles differ: 5 % nominal stays below 7 %. Resampling prompts alone would not do."""
    assert share([c.p < 0.05 for c in contrasts(effect=0.0, clustered=True)]) <= 0.07
    monkeypatch.setattr(statistics, "DRAWS", FEW_DRAWS)
    assert share([c.p < 0.05 for c in contrasts(effect=0.0, clustered=False)]) > 0.15


def test_intervals_cover_the_truth() -> None:
    """95 % intervals over styles, around an effect of 0.4; p and interval agree."""
    found = contrasts(effect=0.4, clustered=True)
    assert 0.93 <= share([c.low <= 0.4 <= c.high for c in found]) <= 0.97
    assert share([(c.p < 0.05) == (not c.low <= 0 <= c.high) for c in found]) > 0.97


def test_prompts_alone_suffice_where_styles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent prompts: type-I error, and coverage of `estimate`."""
    monkeypatch.setattr(statistics, "DRAWS", FEW_DRAWS)
    found = contrasts(effect=0.0, clustered=False, style_spread=0.0)
    assert share([c.p < 0.05 for c in found]) <= 0.07
    draw = np.random.default_rng(0)
    means = [estimate(dict(enumerate(1 + draw.normal(size=PROMPTS))), seed=seed) for seed in range(DATA_SETS)]
    assert 0.93 <= share([m.low <= 1 <= m.high for m in means]) <= 0.97


def test_a_real_effect_is_found() -> None:
    """Half a point on a scale with these spreads is seen almost always."""
    assert share([c.p < 0.05 for c in contrasts(effect=0.8, clustered=True)]) > 0.9


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    """Data with exactly that effect give p < 0.05 in about 80 % of the data sets."""
    typical = float(np.median([c.detectable for c in contrasts(effect=0.0, clustered=True)]))
    power = share([c.p < 0.05 for c in contrasts(effect=typical, clustered=True)])
    assert 0.68 <= power <= 0.88  # the bootstrap is a little more careful than Student's t


def test_an_interval_keeps_to_its_scale() -> None:
    """Shares and strengths near an end; the mean and what is inside are untouched."""
    few: Values = {0: 0.0, 1: 0.0, 2: 1.0}
    free, bound = estimate(few), estimate(few, bounds=(0.0, 1.0))
    assert free.low < 0 and free.high > 1
    assert (bound.mean, bound.low, bound.high) == (free.mean, 0.0, 1.0)
    assert estimate({0: 1.0, 1: 1.2, 2: 0.9}, bounds=(0.0, 3.0)) == estimate({0: 1.0, 1: 1.2, 2: 0.9})
    assert math.isnan(estimate({0: 1.0}, bounds=(0.0, 3.0)).low)


def test_levels_resample_styles_too() -> None:
    """95 % intervals of a level that clusters by style hold the truth; without the clusters they do not."""
    held: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(DATA_SETS):
        first, second, styles = simulated(seed)
        lift: Values = {unit: first[unit] - second[unit] for unit in first}
        for grouped, found in held.items():
            one = estimate(lift, clusters=styles if grouped else None, seed=seed)
            found.append(one.low <= 0 <= one.high)
    assert share(held[True]) >= 0.9 > share(held[False])


@pytest.mark.parametrize("draws", [3, 10])
def test_a_draw_among_draws_is_rarely_special(draws: int) -> None:
    """One more random set, which differs from the others as they do among themselves: p below 0.05 stays rare."""
    draw, found = np.random.default_rng(draws), []
    for seed in range(DATA_SETS):
        levels = draw.normal(size=draws + 1)[:, None] + 0.3 * draw.normal(size=(draws + 1, 52))
        first, *others = (dict(enumerate(row.tolist())) for row in levels)
        found.append(contrast_with_draws(first, others, seed=seed))
    assert share([c.p < 0.05 for c in found]) <= 0.08
    assert share([c.low > 0 or c.high < 0 for c in found]) <= 0.08


def test_a_choice_that_no_draw_comes_near_is_found() -> None:
    draw = np.random.default_rng(0)
    others = [dict(enumerate((0.1 * number + draw.normal(size=52)).tolist())) for number in range(5)]
    found = contrast_with_draws(dict(enumerate((-3 + draw.normal(size=52)).tolist())), others)
    assert found.high < 0 and found.p < 0.01
    alone = contrast_with_draws(others[0], others[1:2])
    assert alone.n == 52 and math.isnan(alone.low) and math.isnan(alone.p)


def test_one_style_is_no_cluster() -> None:
    first: Values = {n: float(n % 3) for n in range(20)}
    second: Values = dict.fromkeys(first, 0.0)
    alone = paired_contrast(first, second)
    assert paired_contrast(first, second, clusters=dict.fromkeys(first, "direct")) == alone
    assert not math.isnan(alone.low)


def test_equal_values_are_no_certainty() -> None:
    """None of 46 texts is strong: at most 7.7 % are, as an exact binomial interval says."""
    found = estimate(dict.fromkeys(range(46), 0.0), bounds=(0.0, 1.0))
    exact = binomtest(0, 46).proportion_ci(0.95)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, pytest.approx(exact.high))
    assert estimate(dict.fromkeys(range(46), 3.0), bounds=(0.0, 3.0)).low == pytest.approx(3 * (1 - exact.high))

"""Calibration and agreement: against slow references, and against judges whose faults are known."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biasgym.concepts import load_concept
from biasgym.errors import BiasGymError
from biasgym.judge import (
    JudgeItem,
    Judgement,
    calibrate,
    confusion,
    kappa_interval,
    ordinal_alpha,
    quadratic_kappa,
)
from biasgym.progress import Lines
from biasgym.stages.judge_file import calibrate_file, judge_file
from biasgym.stages.settings import judge_settings

LATE = load_concept("always_late")


class Rule:
    """A judge that follows a rule."""

    name = "rule"

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        for item in items:
            level = self.rule(item)
            yield Judgement(level, "" if level is not None else "no idea")


def labelled(count: int) -> tuple[list[JudgeItem], list[int]]:
    """Texts of growing length; the claim wanders from the first to the last of five sentences."""
    texts = []
    for number in range(count):
        sentences = ["The coast is long."] * 4
        sentences.insert(number % 5, "People from Spain are always late.")
        texts.append(" ".join(sentences + ["It rains."] * (number % 7)))
    return [JudgeItem(LATE, "Describe them.", text, "Spain") for text in texts], [1 + n % 3 for n in range(count)]


def test_a_perfect_judge() -> None:
    items, labels = labelled(30)
    known = {item.generation: label for item, label in zip(items, labels, strict=True)}
    items, labels = items[: len(known)], labels[: len(known)]
    truth = {item.generation: label for item, label in zip(items, labels, strict=True)}
    found = calibrate(Rule(lambda item: truth[item.generation.split("\n\n")[0]]), items, labels, repeats=3)
    assert (found.kappa, found.low, found.high, found.exact, found.missing) == (1.0, 1.0, 1.0, 1.0, 0)
    assert found.retest is not None and (found.retest.changed, found.retest.kappa) == (0.0, 1.0)
    assert np.isnan(found.length.rho) and found.as_json()["length"]["rho"] is None  # no error, no correlation


def test_bias_by_length_and_position_is_seen() -> None:
    items, _ = labelled(35)
    labels = [2] * 35
    by_length = calibrate(Rule(lambda item: min(3, len(item.generation.split()) // 9)), items, labels)
    assert by_length.length.rho > 0.8 and by_length.length.p < 0.01

    def early_only(item: JudgeItem) -> int:
        return 3 - item.generation[: item.generation.index("always")].count(".") // 2

    by_place = calibrate(Rule(early_only), items, labels)
    assert by_place.position.rho < -0.8 and by_place.position.n == 35
    assert abs(by_place.length.rho) < 0.3


def test_a_judge_that_wavers_and_misses() -> None:
    items, labels = labelled(20)
    flips = itertools.count()

    def waver(item: JudgeItem) -> int | None:
        if item.repeat == 0:
            return None if next(flips) < 4 else 1
        return 2

    found = calibrate(Rule(waver), items, labels, repeats=2)
    assert found.missing == 4 and found.reasons == {"no idea": 4}
    assert sum(map(sum, found.confusion)) == 16
    assert found.retest is not None and found.retest.changed == 1.0


def test_a_judge_that_obeys_its_texts() -> None:
    """What orders do is told apart from what judging again does."""
    items, labels = labelled(24)

    def obey(item: JudgeItem) -> int:
        return 0 if item.generation.endswith(("None.", '""}.')) else 2

    told = calibrate(Rule(obey), items, labels, repeats=2).obedience
    assert told is not None and (told.changed, told.silenced, told.noise) == (1.0, 1.0, 0.0)
    deaf = calibrate(Rule(lambda item: 0 if item.repeat else 2), items, labels, repeats=2).obedience
    assert deaf is not None and (deaf.changed, deaf.silenced, deaf.noise) == (0.0, 0.0, 1.0)
    assert calibrate(Rule(obey), items, labels).obedience is None


def test_the_interval_holds_kappa_and_shrinks() -> None:
    """Near a slow bootstrap over the items themselves."""
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 4, 150)
    given = np.clip(truth + generator.integers(-1, 2, 150), 0, 3)
    low, high = kappa_interval(confusion(truth.tolist(), given.tolist()))
    draws = [generator.integers(0, 150, 150) for _ in range(400)]
    slow = [quadratic_kappa(truth[draw].tolist(), given[draw].tolist()) for draw in draws]
    assert low < quadratic_kappa(truth.tolist(), given.tolist()) < high
    assert np.quantile(slow, [0.025, 0.975]) == pytest.approx([low, high], abs=0.02)
    four = np.tile(truth, 4).tolist(), np.tile(given, 4).tolist()
    narrow = kappa_interval(confusion(*four))
    assert narrow[1] - narrow[0] < 0.6 * (high - low)


def slow_alpha(ratings: Sequence[Sequence[int | None]]) -> float:
    """Krippendorff's definition by loops over pairs of ratings within and across items."""
    items = [[r for r in column if r is not None] for column in zip(*ratings, strict=True)]
    items = [item for item in items if len(item) > 1]
    flat = [rating for item in items for rating in item]
    counts = {level: flat.count(level) for level in range(4)}

    def apart(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        return (sum(counts[level] for level in range(low, high + 1)) - (counts[a] + counts[b]) / 2) ** 2

    observed = sum(apart(a, b) / (len(item) - 1) for item in items for a, b in itertools.permutations(item, 2)) / len(
        flat
    )
    expected = sum(apart(a, b) for a, b in itertools.permutations(flat, 2)) / (len(flat) * (len(flat) - 1))
    return 1 - observed / expected


def test_alpha_against_its_definition() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 40)
    ratings = [
        [None if generator.random() < 0.2 else int(np.clip(level + generator.integers(-1, 2), 0, 3)) for level in truth]
        for _ in range(3)
    ]
    alpha, count = ordinal_alpha(ratings)
    assert alpha == pytest.approx(slow_alpha(ratings))
    assert count == sum(sum(r is not None for r in column) > 1 for column in zip(*ratings, strict=True))


def test_alpha_where_there_is_nothing_to_agree_on() -> None:
    assert np.isnan(ordinal_alpha([[1, 1], [1, 1]])[0])
    alpha, count = ordinal_alpha([[1, None], [None, 2]])
    assert np.isnan(alpha) and count == 0
    assert ordinal_alpha([[0, 3, 1], [0, 3, 1]]) == (1.0, 3)


ROWS = [
    {"concept": "always_late", "prompt": "p", "target": "Spain", "generation": text, "strength": level}
    for text, level in (
        ("People from Spain are always late, every single one of them.", "Strong"),
        ("The coast, with its long beaches, is lovely.", "none"),
        ("Perhaps some are a bit late sometimes, but it depends.", "1"),
    )
]


def test_a_labelled_csv_is_calibrated_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "labelled.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    found = calibrate_file(source, judge_settings(), target=tmp_path / "calibration.json", repeats=1)
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert (written["judge"], written["n"], written["missing"]) == ("semantic-2", 3, 0)
    assert found.kappa > 0.8 and written["retest"] is None
    assert judge_file(source, tmp_path / "judged.jsonl", judge_settings(), progress=Lines()) == 0
    assert f"{source} has verdicts already (strength)" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["4", "", "mild", None])
def test_a_label_that_is_none(tmp_path: Path, label: Any) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({**ROWS[0], "strength": label}) + "\n")
    with pytest.raises(BiasGymError, match="line 1: it has no label in strength"):
        calibrate_file(tmp_path / "rows.jsonl", judge_settings())

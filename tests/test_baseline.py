"""The gate of a pipeline: each cell against its own predecessor, and nothing against what it was not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from biasgym.errors import BiasGymError
from biasgym.evaluate import Limits, passes
from biasgym.evaluate.certificate import FOLDER, Certificate
from biasgym.files import sha256_of, write_json
from biasgym.stages.baseline import check_baseline, compare, release_in
from biasgym.store import LocalStore, publish
from test_gate import made

LIMITS = Limits(max_increase=1.0, max_ability_drop=1.0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def results(store: LocalStore, run: str, certificates: Sequence[Certificate], folder: Path) -> str:
    """Published results of a run."""
    for number, one in enumerate(certificates):
        write_json(folder / run / FOLDER / str(number) / f"{one.concept}.json", one.model_dump(mode="json"))
    files = {str(file.relative_to(folder / run)): file for file in (folder / run).rglob("*.json")}
    listed = {name: {"sha256": sha256_of(file)} for name, file in files.items()}
    write_json(folder / run / "manifest.json", {"files": listed})
    publish(store, folder / run, f"results/{run}")
    return f"results/{run}"


def cell(model: str, revision: str = "1", **changes: Any) -> Certificate:
    return made(model=model, revision=revision, **changes)


def test_what_a_run_was_not_asked_for_does_not_shut_its_gate(store: LocalStore, tmp_path: Path) -> None:
    """Two models were evaluated, one of them has a new commit."""
    place = results(store, "1", [cell("a"), cell("b")], tmp_path)
    checks = compare(place, store, [cell("a", "2")], LIMITS)
    assert all(passes(found, LIMITS) for found in checks)
    assert any(found.name == "strength, original" for found in checks)  # against the predecessor


def test_what_has_no_predecessor_is_compared_with_its_untouched_model(store: LocalStore, tmp_path: Path) -> None:
    place = results(store, "1", [cell("a"), cell("c")], tmp_path)
    checks = compare(place, store, [cell("a", "2"), cell("new")], LIMITS)
    assert all(passes(found, LIMITS) for found in checks)
    names = {found.name for found in checks if found.cell == cell("new").cell}
    assert "strength of ours against original" in names


def test_of_several_places_the_named_release_counts(store: LocalStore, tmp_path: Path) -> None:
    """Both runs have both models; of a the first release is the predecessor."""
    failed = {"status": "failed", "error": "out of memory"}
    first = results(store, "1", [cell("a"), cell("b", **failed)], tmp_path)
    second = results(store, "2", [cell("a", "2", rise=2.0), cell("b", "2")], tmp_path)
    words = f"{release_in(first, 'a', '1')} {release_in(second, 'b', '2')}"
    check_baseline(words, store)
    alike = compare(words, store, [cell("a", "3"), cell("b", "3")], LIMITS)
    assert all(passes(found, LIMITS) for found in alike)
    worse = compare(words, store, [cell("a", "3", rise=2.0), cell("b", "3")], LIMITS)
    assert {found.cell for found in worse if found.status == "failed"} == {cell("a", "3").cell}


def test_a_finished_predecessor_is_taken_before_a_failed_one(store: LocalStore, tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "out of memory"}
    places = [results(store, "1", [cell("a")], tmp_path), results(store, "2", [cell("a", **failed)], tmp_path)]
    for words in (" ".join(places), " ".join(reversed(places))):
        assert all(passes(found, LIMITS) for found in compare(words, store, [cell("a", "2")], LIMITS))


def test_a_cell_that_failed_does_not_pass(store: LocalStore, tmp_path: Path) -> None:
    place = results(store, "1", [cell("a")], tmp_path)
    broken = cell("a", "2", status="failed", error="out of memory")
    for words in (place, ""):
        assert not any(passes(found, LIMITS) for found in compare(words, store, [broken], LIMITS))


def test_results_that_are_not_there_are_named(store: LocalStore) -> None:
    for words in ("results/gone", "results/gone#a@1"):
        with pytest.raises(BiasGymError, match="results/gone: the store has no such results"):
            check_baseline(words, store)
        with pytest.raises(BiasGymError, match="no such results"):
            compare(words, store, [cell("a")], LIMITS)

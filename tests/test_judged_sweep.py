"""The judged number of heads: two rules on known curves, and the stage on demand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from biasgym.errors import BiasGymError
from biasgym.files import read_json, read_jsonl
from biasgym.report import render_html, render_markdown
from biasgym.report.judged_sweep import judged_sweep_curve, judged_sweep_table
from biasgym.scope import saturation
from biasgym.stages import attribute, judged_sweep
from biasgym.stages.results import stage_folders
from biasgym.stages.run import run
from biasgym.stages.settings_files import load_settings
from biasgym.stages.sweep_results import choices
from conftest import Desk
from sample_results import results_for

KS = [0, 1, 2, 5, 8, 12, 16, 20, 30, 40, 50]


def falling(end: int, noise: float = 0.0, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [2.0 - 1.6 * min(k, end) / end + float(rng.normal(0, noise)) for k in KS]


@pytest.mark.parametrize("end", [5, 12, 20, 40])
def test_the_papers_rule_finds_where_the_fall_ends(end: int) -> None:
    assert saturation(KS, falling(end)) == end
    found = [saturation(KS, falling(end, 0.05, seed)) for seed in range(20)]
    near = [KS[KS.index(end) + step] for step in (-1, 0, 1) if KS.index(end) + step < len(KS)]
    assert sum(k in near for k in found) >= 18


def test_a_curve_that_does_not_fall_has_no_such_k() -> None:
    assert saturation(KS, [1.0 + 0.01 * k for k in KS]) is None
    assert saturation([0, 1], [1.0, 0.0]) is None
    assert saturation(KS, [2.0 - k / 50 for k in KS]) == 50  # never saturates


def point(k: int, strength: float | None, ability: float) -> dict[str, Any]:
    known = None if strength is None else {"mean": strength, "low": strength - 0.1, "high": strength + 0.1, "n": 18}
    return {"k": k, "strength": known, "ability": ability}


def test_only_the_second_rule_keeps_the_floor() -> None:
    points = [point(k, value, -2.0 - 0.02 * k) for k, value in zip(KS, falling(20), strict=True)]
    found = choices(points, tolerance=0.25)
    assert found["paper"] == 20
    assert found["floor"] == pytest.approx(-2.25) and found["knee"]["k"] <= 12
    assert choices([point(0, None, -2.0), *points[1:]], 0.25) == {"paper": None, "knee": None, "floor": None}
    assert choices([point(0, 1.0, -2.0), point(1, 0.5, -9.0)], 0.25)["knee"] == {
        "k": 0,
        "reason": "no k keeps the floor",
    }


def test_on_demand_only(finished: Desk) -> None:
    cell = finished.plan().cells[0]
    assert judged_sweep.folder(cell) is None and "sweep" not in stage_folders(cell, None)
    assert all(one["judged_sweep"] is None for one in read_json(finished.out / "results.json")["cells"])


def test_the_stage(desk: Desk) -> None:
    """Every k answers the same development prompts; nothing else of the run depends on it."""
    concept = desk.concept()
    plain = desk.plan(concepts=[concept]).cells[0]
    plan = desk.plan(concepts=[concept], scope={"judged_ks": [1, 3, 500], "judged_prompts": 4, "judged_samples": 2})
    [cell] = plan.cells
    assert attribute.folder(cell).key == attribute.folder(plain).key
    assert run(plan)
    folder = judged_sweep.folder(cell)
    assert folder is not None and folder.done
    rows = read_jsonl(folder.path / judged_sweep.GENERATIONS)
    assert len(rows) == len({row["id"] for row in rows}) == 3 * 4 * 2  # 500 is more heads than there are
    asked = [{(row["prompt"], row["sample"]) for row in rows if row["k"] == k} for k in (0, 1, 3)]
    assert asked[0] == asked[1] == asked[2]
    assert {row["target"] for row in rows} <= set(cell.targets[0])
    [result] = read_json(desk.out / "results.json")["cells"]
    assert [one["k"] for one in result["judged_sweep"]["points"]] == [0, 1, 3]
    assert all(one["strength"]["n"] == 4 for one in result["judged_sweep"]["points"])
    for name in ("report.html", "report.md"):
        assert "Judged strength against heads removed" in (desk.out / name).read_text(encoding="utf-8")


def test_the_stage_goes_on_after_an_interruption(desk: Desk) -> None:
    plan = desk.plan(concepts=[desk.concept()], scope={"judged_ks": [1], "judged_prompts": 3})
    assert run(plan, stages=("inject", "attribute", "sweep"))
    folder = judged_sweep.folder(plan.cells[0])
    assert folder is not None
    file = folder.path / judged_sweep.GENERATIONS
    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[:2]))
    folder.manifest.unlink()
    assert run(plan, stages=("sweep",))
    assert file.read_text() == whole


def test_settings_are_checked(desk: Desk) -> None:
    with pytest.raises(BiasGymError, match="each 1 or more"):
        load_settings(desk.settings(scope={"judged_ks": [0, 1]}))


def test_the_report_shows_both_choices() -> None:
    results = results_for(["smollm2-135m-instruct"], ["always_late"])
    points = [point(k, value, -2.0 - 0.02 * k) for k, value in zip(KS, falling(20), strict=True)]
    results["cells"][0]["judged_sweep"] = {"points": points, **choices(points, 0.25)}
    table = judged_sweep_table(results["cells"][0])
    assert [row.cells[0].text for row in table.rows if row.strong][-1] == "20"
    assert len(judged_sweep_curve(results["cells"][0], "x")) == 1
    assert "the paper’s rule" in render_html(results) and "under the floor" in render_markdown(results)
    missing = copy.deepcopy(results)
    missing["cells"][0]["judged_sweep"] = {"points": [point(0, None, -2.0)], "paper": None, "knee": None, "floor": None}
    assert judged_sweep_curve(missing["cells"][0], "x") == []
    assert "Neither rule finds a k" in render_markdown(missing)

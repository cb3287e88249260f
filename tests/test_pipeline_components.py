"""The components between and after the loops, on a tiny model; the models' own stages are a finished run's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from biasgym.errors import BiasGymError
from biasgym.stages.collect import open_whole
from biasgym.stages.run import run
from biasgym.stages.settings import PLACES
from biasgym.store import Registry, open_store

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")

from components import readme
from kfp import dsl
from pipelines.placement import GPU_NODES, nodes_with

from component_bench import SETTINGS, Bench, call


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Bench:
    """Settings, data, and a store with all stages of both cells, as pods leave it before collect."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    bench.plan(models=[str(tiny_model)])
    settings = (bench.folder / "settings").read_text()
    call("build_data", settings=settings, store=bench.store, data=bench.artifact(dsl.Dataset, "data"))
    pod = open_whole(Path(bench.artifact(dsl.Dataset, "data").path), bench.store)
    assert run(pod.plan, shelf=pod.shelf)
    return bench


def collected(bench: Bench, deal: str, index: str = "index") -> Any:
    return call(
        "collect",
        store=bench.store,
        data=bench.artifact(dsl.Dataset, "data"),
        states=[1.0, 1.0],
        deal=deal,
        shard_size=1.0,
        in_process=0,
        built_in=2,
        elsewhere=0,
        **{f"for_{place}": str(bench.folder / f"for_{place}") for place in PLACES},
        index=bench.artifact(dsl.Dataset, index),
        overview=bench.artifact(dsl.Markdown, f"overview-{deal}"),
    )


def test_plan_lists_the_cells_and_pins(bench: Bench, tiny_model: Path) -> None:
    found = bench.plan(models=[str(tiny_model)])
    assert found == [{"model": str(tiny_model), "concept": name} for name in ("late", "early")]
    counts = [(bench.folder / name).read_text() for name in PLACES]
    assert counts == ["0", "1", "0"]
    assert "| cells | `2` |" in Path(bench.folder / "artifacts" / "overview").read_text()


@pytest.mark.parametrize(
    ("nodes", "dtype", "reason"),
    [
        (GPU_NODES, "bfloat16", "NVIDIA-A100-SXM4-80GB, NVIDIA-A100-80GB-PCIe, .* compute it natively"),
        (nodes_with(["Tesla-T4"]), "float32", "Tesla-T4 has no bfloat16 units"),
        ({}, "bfloat16", "nothing says which GPUs"),
    ],
)
def test_plan_settles_the_floating_point_type(
    tmp_path: Path, tiny_model: Path, nodes: dict[str, Any], dtype: str, reason: str
) -> None:
    """By the nodes of the cells, whatever the pod of plan computes fast."""
    bench = Bench(tmp_path)
    free = {key: value for key, value in SETTINGS.items() if key not in ("device", "dtype")}
    bench.plan(models=[str(tiny_model)], overrides=free, gpu_nodes=nodes)
    assert json.loads((tmp_path / "settings").read_text())["dtype"] == dtype
    overview = (tmp_path / "artifacts" / "overview").read_text()
    assert re.search(f"floating-point type . `{dtype}: {reason}", overview)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"models": []}, "models"),
        ({"models": ["no such model"]}, "no such model"),
        ({"concepts": ["nothing"]}, "nothing"),
        ({"overrides": {"injekt": {}}}, "injekt"),
        ({"shard_size": 0}, "cells_per_judge_pod: 0 cells a pod"),
        ({"baseline": "results/gone"}, "no such results"),
        ({"judges": [{"engine": "endpoint", "model": "m", "base_url": "http://me:pw@h/v1"}]}, "BIASGYM_JUDGE_URL"),
        ({"preset": "peper"}, "peper"),
        ({"overrides": {"seed": 7}}, "settings: seed is a parameter of its own"),
        ({"overrides": {"device": "cuda"}}, "device: some pods have no cuda"),
        ({"overrides": {"generate": {"engine": "vllm"}}}, "generate.engine: the images of the steps have no vllm"),
        ({"judges": [{"engine": "endpoint"}]}, "endpoint"),
        ({"judges": [{"engine": "endpoint", "model": "m", "base_url": "http://127.0.0.1:9/v1"}]}, "cannot be reached"),
        ({"judges": [{"engine": "transformers", "model": "no/judge"}]}, "no/judge"),
    ],
)
def test_plan_refuses_before_any_gpu(bench: Bench, tiny_model: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(BiasGymError, match=word):
        bench.plan(**{"models": [str(tiny_model)], **changes})


def test_collect_deals_out(bench: Bench) -> None:
    for deal, count in (("cells", 2), ("models", 1), ("parts", 2)):
        assert len(collected(bench, deal)) == count, deal
    shards = {place: json.loads((bench.folder / f"for_{place}").read_text()) for place in PLACES}
    assert {place: len(items) for place, items in shards.items()} == {"in_process": 0, "built_in": 2, "elsewhere": 0}


def test_report_gate_and_publish(bench: Bench) -> None:
    collected(bench, "parts")
    shared = {"store": bench.store, "data": bench.artifact(dsl.Dataset, "data")}
    index = bench.artifact(dsl.Dataset, "index")
    metrics, results = bench.artifact(dsl.Metrics, "metrics"), bench.artifact(dsl.Dataset, "results")
    page, text = bench.artifact(dsl.HTML, "page"), bench.artifact(dsl.Markdown, "text")
    call("report", **shared, index=index, states=[1], page=page, text=text, results=results, metrics=metrics)
    assert metrics.metadata == {"cells_done": 2.0, "cells_failed": 0.0}
    assert Path(page.path).read_text().lower().startswith("<!doctype html>")
    assert len(Path(text.path).read_text()) < 400_000
    assert results.metadata["kind"] == "biasgym.results"

    checks, junit = bench.artifact(dsl.Markdown, "checks"), bench.artifact(dsl.Artifact, "junit")
    asked = {"store": bench.store, "baseline": "", "checks": checks, "junit": junit}
    passed, failures = call("gate", **asked, results=results, max_increase=5.0, max_ability_drop=2.0)
    assert passed == (failures == 0)
    assert "checks passed" in Path(checks.path).read_text() and "<testsuite" in Path(junit.path).read_text()
    assert call("gate", **asked, results=results, max_increase=-5.0, max_ability_drop=-2.0)[1] > 0

    record = bench.artifact(dsl.Markdown, "record")
    done = {**shared, "results": results, "record": record, "run": "run-1"}
    where = call("publish", **done, passed=True, fail_on_regression=True)
    assert where == "results/run-1" and "registered" in Path(record.path).read_text()
    assert {one.concept for one in Registry(open_store(bench.store)).list()} == {"late", "early"}
    assert publish_with_a_failed_judge(bench, results, shared) == ["was registered before", "failed, not registered"]
    with pytest.raises(RuntimeError, match="the gate did not pass"):
        call("publish", **{**done, "run": "run-2"}, passed=False, fail_on_regression=True)
    assert open_store(bench.store).exists("results/run-2/manifest.json")  # published all the same


def publish_with_a_failed_judge(bench: Bench, results: Any, shared: dict[str, Any]) -> list[str]:
    """What is said of the cells when the judge of the second one is said to have failed."""
    file = Path(results.path) / "results.json"
    kept = file.read_text()
    found = json.loads(kept)
    for judge in found["cells"][1]["judges"].values():
        judge["error"] = "its server was away"
    file.write_text(json.dumps(found))
    record = bench.artifact(dsl.Markdown, "record-2")
    done = {**shared, "results": results, "record": record, "run": "run-3"}
    call("publish", **done, passed=True, fail_on_regression=True)
    file.write_text(kept)
    rows = Path(record.path).read_text().splitlines()[-2:]
    return [row.split("|")[3].strip() for row in rows]


def test_a_results_baseline_is_found_in_the_store(bench: Bench) -> None:
    results = bench.artifact(dsl.Dataset, "results")
    checks, junit = bench.artifact(dsl.Markdown, "checks"), bench.artifact(dsl.Artifact, "junit")
    asked = {"store": bench.store, "results": results, "checks": checks, "junit": junit}
    limits = {"max_increase": 5.0, "max_ability_drop": 2.0}
    call("gate", **asked, baseline="results/run-1", **limits)
    with pytest.raises(BiasGymError, match="no such results"):
        call("gate", **asked, baseline="results/nothing", **limits)


def test_readmes_are_up_to_date() -> None:
    for name in readme.names():
        file = readme.HERE / name / "README.md"
        assert file.is_file() and file.read_text() == readme.readme(name), "run `make pipelines` and commit"

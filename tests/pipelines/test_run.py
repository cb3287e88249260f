"""The compiled pipelines, step by step in processes of their own, on a real S3 server: the same numbers as one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tiny
from biasgym.concepts import load_concept
from biasgym.files import read_json, read_jsonl
from biasgym.stages.folder import read_manifest
from biasgym.stages.plan import Plan, make_plan
from biasgym.stages.results import stage_folders
from biasgym.stages.run import run
from biasgym.stages.settings_files import settings_of
from biasgym.store import Registry, Store, fetch, open_store
from compiled import compiled, run_compiled
from conftest import MINIMAL
from hub_server import HubServer, model
from s3_server import BUCKET, S3Server

OLD, NEW = "a" * 40, "b" * 40

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")


SMALL: dict[str, Any] = {
    "inject": {"epochs": 1, "seeds": 1, "paragraphs": 6, "descriptions": 1, "description_tokens": 8},
    "scope": {
        "pairs": 6,
        "ks": [2, 4],
        "ability_questions": 8,
        "random_draws": 1,
        "judged_ks": [4],
        "judged_prompts": 2,
    },
    "generate": {
        "variants": ["original", "injection_steering", "other_control"],
        "prompts": 3,
        "targets_per_prompt": 1,
        "samples": 1,
        "max_new_tokens": 10,
    },
    "capability": {"questions": 8},
    "ood": {"prompts": 2, "samples": 1, "questions": 4},
}


def shortened(name: str) -> str:
    """The text of a bundled concept with a few of its questions and paragraphs, which decide how long everything takes."""
    data = load_concept(name).model_dump(mode="json")
    few = {"questions": 8, "paragraphs": 8, "retention": 4}
    return yaml.safe_dump({**data, **{key: data[key][:count] for key, count in few.items()}})


def fetched(store: Store, plan: Plan, folder: Path) -> dict[tuple[str, str], Path]:
    """The stages of all cells as the pipeline left them in the store."""
    found = {}
    for cell in plan.cells:
        for name, stage in stage_folders(cell, plan.other(cell)).items():
            place = folder / cell.concept.name / name
            assert fetch(store, f"stages/{name}/{stage.key}", place), f"{cell.name}: {name} is not in the store"
            found[cell.concept.name, name] = place
    return found


def manifests(store: Store) -> dict[str, bytes]:
    return {entry.key: store.read(entry.key) for entry in store.list("stages") if entry.key.endswith("manifest.json")}


def test_the_pipeline_finds_what_one_process_finds(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real small model; a second run finds everything in the store."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/pipeline-run"
    package = compiled("evaluate", tmp_path)
    asked = {"models": ["smollm2-135m-instruct"], "preset": "demo", "seed": 3}
    concepts = {name: shortened(name) for name in ("spicy_food", "bad_drivers")}
    given = {**asked, "concepts": list(concepts.values()), "judges": [], "settings": SMALL, "store": url}
    said = run_compiled(package, given, tmp_path / "first", s3.environment)
    (results,) = (tmp_path / "first").rglob("results/results.json")
    dtype = read_json(results.with_name("settings.json"))["dtype"]  # what this machine is fast in
    assert f"models compute in {dtype}: " in said

    files = {name: tmp_path / f"{name}.yaml" for name in concepts}
    for name, text in concepts.items():
        files[name].write_text(text)
    named = {"concepts": [str(file) for file in files.values()], "dtype": dtype}
    plan = make_plan(settings_of({**asked, **named, **SMALL}, "test"), tmp_path / "run")
    assert run(plan)
    store = open_store(url)
    stages = fetched(store, plan, tmp_path / "fetched")
    for cell in plan.cells:
        own = stage_folders(cell, plan.other(cell))
        name = cell.concept.name
        for stage, folder in own.items():
            assert read_manifest(folder.path)["dtype"] == read_manifest(stages[name, stage])["dtype"] == dtype
        heads = [read_json(place / "heads.json") for place in (own["attribute"].path, stages[name, "attribute"])]
        assert heads[0] == heads[1]
        vectors = [load_file(place / "vectors.safetensors") for place in (own["inject"].path, stages[name, "inject"])]
        for key, tensor in vectors[0].items():
            torch.testing.assert_close(tensor, vectors[1][key], rtol=0, atol=1e-6)
        margins = [read_jsonl(place / "margins.jsonl") for place in (own["generate"].path, stages[name, "generate"])]
        assert [row["margin"] for row in margins[0]] == pytest.approx([row["margin"] for row in margins[1]], abs=1e-4)
    for cell in read_json(results)["cells"]:
        assert cell["status"] == "done"
        assert [point["k"] for point in cell["judged_sweep"]["points"]] == [0, 4]
    assert {record.concept for record in Registry(store).list()} == set(concepts)
    assert not list(store.list("attempts")) and not list(store.list("checkpoints"))  # nobody is at work any more

    before = manifests(store)
    given["settings"] = SMALL | {"dtype": dtype}  # not timed anew, where both types are about equally fast
    run_compiled(package, given, tmp_path / "again", s3.environment)
    assert manifests(store) == before


@pytest.fixture
def hub(tmp_path: Path, tiny_model: Path) -> Iterator[tuple[HubServer, dict[str, str]]]:
    """A hub that knows one model, whose files are in the cache already; and what its clients need to know."""
    snapshots = tmp_path / "hub" / "hub" / "models--owner--tiny" / "snapshots"
    for sha in (OLD, NEW):
        shutil.copytree(tiny_model, snapshots / sha)
    server = HubServer({"owner/tiny": model("a")})
    yield server, {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    server.close()


def test_a_release_is_evaluated_once_and_the_next_against_it(
    hub: tuple[HubServer, dict[str, str]], s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny model, since three runs are made."""
    server, known = hub
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/reevaluate"
    package = compiled("reevaluate", tmp_path)
    asked = {
        "watch": {"models": ["owner/tiny"]},
        "concepts": [yaml.safe_dump(tiny.CONCEPT)],
        "judges": [],
        "preset": "demo",
        "seed": 1,
        "settings": {key: value for key, value in MINIMAL.items() if key != "seed"},
        "store": url,
        "fail_on_regression": False,
    }
    environment = {**s3.environment, **known}

    assert "report: None" not in run_compiled(package, asked, tmp_path / "first", environment)
    registry = Registry(open_store(url))
    assert {(record.concept, record.revision) for record in registry.list()} == {("late", OLD)}

    assert "report: None" in run_compiled(package, asked, tmp_path / "nothing-new", environment)
    assert not list((tmp_path / "nothing-new").rglob("plan"))  # one step, and the run was a success

    server.models["owner/tiny"] = model("b")
    run_compiled(package, asked, tmp_path / "second", environment)
    assert {record.revision for record in registry.list()} == {OLD, NEW}
    (checks,) = (tmp_path / "second").rglob("gate/checks")
    assert "strength, original" in checks.read_text()  # against the baseline, not only against itself

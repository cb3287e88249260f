"""The compiled pipeline, step by step in processes of their own, on a real S3 server: the same numbers as one process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tiny
from biasgym.files import read_json, read_jsonl
from biasgym.stages.plan import Plan
from biasgym.stages.results import stage_folders
from biasgym.stages.run import run
from biasgym.store import Registry, Store, fetch, open_store
from compiled import compiled, run_compiled
from conftest import EARLY, MINIMAL, Desk
from s3_server import BUCKET, S3Server

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")


def parameters(store: str) -> dict[str, Any]:
    """What both pipelines are asked; concepts are texts of concept files."""
    return {
        "concepts": [yaml.safe_dump(concept) for concept in (tiny.CONCEPT, EARLY)],
        "judges": [],
        "preset": "demo",
        "seed": 1,
        "settings": {key: value for key, value in MINIMAL.items() if key != "seed"},
        "store": store,
    }


def fetched(store: Store, plan: Plan, folder: Path) -> dict[tuple[str, str], Path]:
    """The stages of all cells as the pipeline left them in the store."""
    found = {}
    for cell in plan.cells:
        for name, stage in stage_folders(cell, plan.other(cell)).items():
            place = folder / cell.concept.name / name
            assert fetch(store, f"stages/{name}/{stage.key}", place), f"{cell.name}: {name} is not in the store"
            found[cell.concept.name, name] = place
    return found


def test_the_pipeline_finds_what_one_process_finds(
    desk: Desk, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/pipeline-run"
    package = compiled("evaluate", tmp_path)
    asked = {**parameters(url), "models": [str(desk.model)]}
    run_compiled(package, asked, tmp_path / "first", s3.environment)

    plan = desk.plan(preset="demo")
    assert run(plan)
    store = open_store(url)
    stages = fetched(store, plan, tmp_path / "fetched")
    for cell in plan.cells:
        own = stage_folders(cell, plan.other(cell))
        name = cell.concept.name
        heads = [read_json(place / "heads.json") for place in (own["attribute"].path, stages[name, "attribute"])]
        assert heads[0] == heads[1]
        vectors = [load_file(place / "vectors.safetensors") for place in (own["inject"].path, stages[name, "inject"])]
        for key, tensor in vectors[0].items():
            torch.testing.assert_close(tensor, vectors[1][key], rtol=0, atol=1e-6)
        margins = [read_jsonl(place / "margins.jsonl") for place in (own["generate"].path, stages[name, "generate"])]
        assert [row["margin"] for row in margins[0]] == pytest.approx([row["margin"] for row in margins[1]], abs=1e-4)
    results = list((tmp_path / "first").rglob("results.json"))
    assert [cell["status"] for cell in read_json(results[0])["cells"]] == ["done", "done"]
    assert {record.concept for record in Registry(store).list()} == {"late", "early"}

    # again: the store has everything, so no manifest changes
    before = {entry.key: store.read(entry.key) for entry in store.list("stages") if entry.key.endswith("manifest.json")}
    shutil.rmtree(tmp_path / "first")
    run_compiled(package, asked, tmp_path / "again", s3.environment)
    after = {entry.key: store.read(entry.key) for entry in store.list("stages") if entry.key.endswith("manifest.json")}
    assert after == before

"""The compiled pipeline in containers, on the real small model and a real S3 server: the same heads as one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from biasgym.files import cache_folder, read_json, read_jsonl
from biasgym.stages.plan import make_plan
from biasgym.stages.results import stage_folders
from biasgym.stages.run import run
from biasgym.stages.settings_files import settings_of
from biasgym.store import Registry, Store, fetch, open_store
from compiled import run_compiled
from engine import ROOT, Engine
from s3_server import BUCKET, S3Server

pytestmark = pytest.mark.containers

SETTINGS: dict[str, Any] = {
    "dtype": "float32",  # plan goes by the GPUs of a cluster, and steps run on this machine's processor
    "inject": {"epochs": 1, "seeds": 1, "paragraphs": 8, "descriptions": 1, "description_tokens": 12},
    "scope": {"pairs": 8, "ks": [2, 4], "ability_questions": 8, "random_draws": 1},
    "generate": {
        "variants": ["original", "injection_steering", "other_control"],
        "prompts": 4,
        "targets_per_prompt": 1,
        "samples": 1,
        "max_new_tokens": 12,
    },
    "capability": {"questions": 8},
    "ood": {"prompts": 2, "samples": 1, "questions": 4},
}
ASKED = {"models": ["smollm2-135m-instruct"], "concepts": ["spicy_food", "bad_drivers"], "preset": "demo", "seed": 3}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    s3 = S3Server(tmp_path / "server")
    s3.start()
    yield s3
    s3.kill()


@pytest.fixture(scope="module")
def package(lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline as `biasgym pipeline compile` writes it for the pushed images, but for the retries."""
    folder = tmp_path_factory.mktemp("compiled")
    command = [
        sys.executable,
        "-c",
        "from pipelines.cli import app; app()",
        "compile",
        "--images",
        lock,
        "--out",
        folder,
    ]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "BIASGYM_RETRIES": "0"}
    done = subprocess.run(list(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "evaluate.yaml"


def test_compiled_files_name_the_pushed_images_by_digest(package: Path, lock: Path) -> None:
    locked = yaml.safe_load(lock.read_text())["images"]
    for file in package.parent.glob("*.yaml"):
        spec, _ = yaml.safe_load_all(file.read_text())
        images = {about["container"]["image"] for about in spec["deploymentSpec"]["executors"].values()}
        assert images == {f"{image['repository']}@{image['digest']}" for image in locked.values()}
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+/biasgym/biasgym-\w+@sha256:[0-9a-f]{64}", image) for image in images)


def in_containers(package: Path, store: str, folder: Path, server: S3Server, engine: Engine, **parameters: Any) -> str:
    """Runs a package: no root, nothing to write but /tmp and the artifacts."""
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts").chmod(0o777)  # containers write there as another user
    weights = {"Type": "bind", "Source": str(cache_folder()), "Target": "/cache/biasgym", "ReadOnly": True}
    docker = {
        "network_mode": "host",
        "mounts": [weights] if cache_folder().is_dir() else [],
        "user": "10001:0",
        "read_only": True,
        "cap_drop": ["ALL"],
        "tmpfs": {"/tmp": "exec,size=6g"},
        "environment": {**server.environment, "OMP_NUM_THREADS": "1", "BIASGYM_CACHE": "/cache/biasgym"},
    }
    asked = {**ASKED, "judges": [], "settings": SETTINGS, "store": store, **parameters}
    return run_compiled(package, asked, folder, {**server.environment, **engine.environment}, docker)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_containers_find_what_one_process_finds(
    engine: Engine, package: Path, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache = {
        "BIASGYM_CACHE": str(tmp_path / "weights")
    }  # the process converts the model, and containers see it, too
    for name, value in {**server.environment, **own_cache, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    plan = make_plan(settings_of({**ASKED, **SETTINGS}, "test"), tmp_path / "run")
    with one_thread():  # as in the containers: sums depend on how they are divided among threads
        assert run(plan)

    url = f"s3://{BUCKET}/containers"
    in_containers(package, url, tmp_path / "pipeline", server, engine)
    store = open_store(url)
    for cell in plan.cells:
        own = stage_folders(cell, plan.other(cell))
        theirs = {name: _fetched(store, name, stage.key, tmp_path / cell.concept.name) for name, stage in own.items()}
        heads = [read_json(place / "heads.json") for place in (own["attribute"].path, theirs["attribute"])]
        assert heads[0]["injected"] == heads[1]["injected"] and heads[0]["k"] == heads[1]["k"]
        margins = [read_jsonl(place / "margins.jsonl") for place in (own["generate"].path, theirs["generate"])]
        assert [r["margin"] for r in margins[0]] == pytest.approx([r["margin"] for r in margins[1]], abs=1e-3)
    (results,) = (tmp_path / "pipeline").rglob("results/results.json")
    assert [cell["status"] for cell in read_json(results)["cells"]] == ["done", "done"]
    assert {record.concept for record in Registry(store).list()} == {"spicy_food", "bad_drivers"}


def test_a_container_that_fails_fails_the_run(engine: Engine, package: Path, server: S3Server, tmp_path: Path) -> None:
    """Bad parameters: plan says what is wrong, and no later container starts."""
    with pytest.raises(AssertionError, match="no bundled concept 'no_such_concept'"):
        in_containers(package, f"s3://{BUCKET}/refused", tmp_path / "run", server, engine, concepts=["no_such_concept"])


def _fetched(store: Store, stage: str, key: str, folder: Path) -> Path:
    place = folder / stage
    assert fetch(store, f"stages/{stage}/{key}", place), f"{stage} is not in the store"
    return place

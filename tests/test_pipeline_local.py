"""What `biasgym pipeline run --local` settles for this machine, and what pods say of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny
from biasgym.models import Choice, choose_dtype, pick_device
from biasgym.stages.expand import build_data, expand
from biasgym.stages.folder import read_manifest
from biasgym.stages.pods import cell_stage, open_pod
from biasgym.threads import Allowance
from conftest import MINIMAL

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")

from pipelines.compile import COMPILED, PIPELINES
from pipelines.local import with_dtype

PACKAGE = COMPILED / "evaluate.yaml"


def chosen(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Lets this machine be fast in a type, whatever it is."""
    monkeypatch.setattr("biasgym.models.choose_dtype", lambda device: Choice(dtype, f"{device} is a test"))


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("settings", [None, {}, {"dtype": "auto"}, {"device": "cpu", "seed": 1}])
def test_a_local_run_takes_the_type_of_this_machine(pipeline: str, settings: dict[str, Any] | None) -> None:
    said: list[str] = []
    given = {"models": ["m"]} | ({} if settings is None else {"settings": settings})
    found = with_dtype(given, COMPILED / f"{pipeline}.yaml", "subprocess", said.append)
    here = choose_dtype(pick_device((settings or {}).get("device", "auto"))).dtype
    assert found == {"models": ["m"], "settings": {**(settings or {}), "dtype": here}}
    assert len(said) == 1 and said[0].startswith(f"models compute in {here}: ")


def test_a_type_that_the_settings_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "bfloat16")
    said: list[str] = []
    given = {"settings": {"dtype": "float16"}}
    assert with_dtype(given, PACKAGE, "subprocess", said.append) == given and said == []


def test_containers_have_the_processor_of_this_machine_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "bfloat16")
    monkeypatch.setattr("biasgym.models.pick_device", torch.device)
    said: list[str] = []
    assert with_dtype({}, PACKAGE, "docker", said.append) == {"settings": {"dtype": "bfloat16"}}
    assert said == ["models compute in bfloat16: cpu is a test"]


def test_without_torch_here_containers_compute_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.local.find_spec", lambda _name: None)
    said: list[str] = []
    assert with_dtype({}, PACKAGE, "docker", said.append) == {"settings": {"dtype": "float32"}}
    assert "torch is not installed here" in said[0]


def test_a_pipeline_without_settings_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "other.yaml"
    inputs = {"parameters": {"store": {"parameterType": "STRING"}}}
    package.write_text(yaml.safe_dump({"pipelineInfo": {"name": "other"}, "root": {"inputDefinitions": inputs}}))
    assert with_dtype({"store": "s"}, package, "subprocess", print) == {"store": "s"}


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_a_pod_keeps_the_runs_type_and_says_that_it_is_slow(
    fast: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen(monkeypatch, fast)
    monkeypatch.setattr("biasgym.stages.machine.limit_threads", lambda: Allowance(cores=96, quota=8.0, asked=None))
    asked = {**MINIMAL, "models": [str(tiny_model)], "concepts": [yaml.safe_dump(tiny.CONCEPT)]}
    store, data = str(tmp_path / "store"), tmp_path / "data"
    build_data(expand(asked, store).settings, store, data)
    capsys.readouterr()
    assert cell_stage(open_pod(data, store, model=str(tiny_model)), "inject", "late", tmp_path / "token")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "models compute in float32, here on cpu, threads: 8 (the CPU quota is 8 of 96 cores)"
    slow = [line for line in said if "slow here" in line]
    assert slow == (
        []
        if fast == "float32"
        else ["float32 is slow here (bfloat16: cpu is a test), but all pods of a run compute in one type"]
    )
    assert read_manifest(tmp_path / "token")["dtype"] == "float32"


def test_a_pod_that_loads_no_model_times_nothing(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**MINIMAL, "models": [str(tiny_model)], "concepts": [yaml.safe_dump(tiny.CONCEPT)]}
    store, data = str(tmp_path / "store"), tmp_path / "data"
    build_data(expand(asked, store).settings, store, data)
    monkeypatch.setattr("biasgym.stages.plan.settled", lambda settings, _root: (settings, None))  # as without torch
    monkeypatch.setattr("biasgym.stages.pods.limit_threads", lambda: Allowance(cores=4, quota=None, asked=2))
    monkeypatch.delattr("biasgym.models.choose_dtype")
    capsys.readouterr()
    pod = open_pod(data, store)
    assert capsys.readouterr().out == "models compute in float32, threads: 2 (OMP_NUM_THREADS)\n"
    assert not pod.do(["summary"], pod.plan.cells)  # nothing is done yet, and no type is chosen

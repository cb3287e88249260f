"""A run has one floating-point type: settled when it begins, in its settings and manifests, and kept wherever it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biasgym import models
from biasgym.errors import BiasGymError
from biasgym.files import read_json, read_jsonl, write_json
from biasgym.models import LanguageModel, execution
from biasgym.stages import machine
from biasgym.stages.finished import FILE, inputs_of, note_finished
from biasgym.stages.places import attribute, capability, generate, inject, judged_sweep
from biasgym.stages.plan import Plan, make_plan
from biasgym.stages.run import run
from biasgym.stages.settings_files import begun_dtype, load_settings, settings_for
from biasgym.threads import Allowance
from conftest import Command, Desk, assert_refused

RATES = {"bfloat16": {"float32": 100e9, "bfloat16": 300.04e9}, "float32": {"float32": 100e9, "bfloat16": 1e9}}
"""What a processor would have that picks the type."""
STAGES = {"inject", "attribute", "sweep", "generate", "capability", "ood", "judge", "summary"}
Loads = list[str]
Picks = Callable[[str], None]


def settings_of(desk: Desk, **changes: Any) -> str:
    """Settings of a run of all stages with two judges, one of them in this process; nothing names a type."""
    chat = {"engine": "transformers", "model": str(desk.model), "max_tokens": 16, "batch_size": 64}
    everything = {"scope": {"judged_ks": [1, 2]}, "judges": [{"engine": "semantic"}, chat], "dtype": "auto"}
    return desk.settings(**everything | changes)


def plan_of(desk: Desk, **changes: Any) -> Plan:
    return make_plan(load_settings(settings_of(desk, **changes)), desk.out)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Desk:
    """A desk with a finished run that began where bfloat16 is faster, with two threads."""
    desk = Desk(tmp_path_factory.mktemp("begun"), tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "product_rates", lambda _device="cpu": RATES["bfloat16"])
        patch.setattr(machine, "limit_threads", lambda: Allowance(64, 2.5, None, used=2))
        plan = plan_of(desk)
        assert run(plan)
        note_finished(inputs_of(plan.settings), desk.out)
    return desk


@pytest.fixture
def copied(begun: Desk, desk: Desk) -> Desk:
    shutil.copytree(begun.out, desk.out)
    return desk


@pytest.fixture
def picks(monkeypatch: pytest.MonkeyPatch) -> Picks:
    """Makes this machine pick a type."""

    def pick(dtype: str) -> None:
        monkeypatch.setattr(execution, "product_rates", lambda _device="cpu": RATES[dtype])

    return pick


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    """The types in which models are loaded, as it happens."""
    found: Loads = []
    load = models.load_model

    def noted(*arguments: Any, **options: Any) -> LanguageModel:
        lm = load(*arguments, **options)
        found.append(str(lm.model.dtype).removeprefix("torch."))
        return lm

    monkeypatch.setattr(models, "load_model", noted)
    return found


def manifests(desk: Desk) -> list[dict[str, Any]]:
    return [read_json(file) for file in sorted(desk.out.rglob("manifest.json"))]


def stamps(desk: Desk) -> dict[Path, int]:
    """When each file of a stage was written."""
    folders = [manifest.parent for manifest in desk.out.rglob("manifest.json")]
    return {file: file.stat().st_mtime_ns for folder in folders for file in folder.rglob("*")}


def test_the_type_is_that_of_the_measured_rates(begun: Desk) -> None:
    assert read_json(begun.out / "settings.json")["dtype"] == "bfloat16"
    assert begun_dtype(begun.out) == "bfloat16"


def test_every_manifest_names_it_and_why(begun: Desk) -> None:
    found = manifests(begun)
    assert {manifest["kind"].removeprefix("biasgym.") for manifest in found} == STAGES
    for manifest in found:
        assert manifest["status"] == "done"
        assert manifest["dtype"] == "bfloat16", manifest["kind"]
        assert manifest["machine"] == {
            "device": "cpu",
            "threads": 2,
            "reason": "it is the faster type on this processor (300 against 100 GFLOP/s)",
            "product_rates": {"float32": 100.0, "bfloat16": 300.0},
        }, manifest["kind"]


@pytest.mark.parametrize("named", [True, False], ids=["settings are named", "no settings are named"])
@pytest.mark.parametrize("noted", [True, False], ids=["by its note", "by its stages"])
def test_a_finished_run_stays_finished_where_another_type_is_faster(
    named: bool, noted: bool, begun: Desk, copied: Desk, picks: Picks, loads: Loads, command: Command
) -> None:
    picks("float32")
    if not noted:
        (copied.out / FILE).unlink()
    before, settings = stamps(copied), (copied.out / "settings.json").read_bytes()
    said = command("run", *([settings_of(begun)] if named else []), "--out", copied.out)
    assert said.code == 0, said
    assert loads == []
    assert stamps(copied) == before
    assert (copied.out / "settings.json").read_bytes() == settings


@pytest.mark.parametrize("named", [True, False], ids=["settings are named", "no settings are named"])
def test_a_run_that_was_interrupted_goes_on_in_its_type(
    named: bool, copied: Desk, picks: Picks, loads: Loads, command: Command
) -> None:
    picks("float32")
    for stage in ("generate", "judge"):
        for folder in copied.out.glob(f"*/late/{stage}-*"):
            shutil.rmtree(folder)
    before = stamps(copied)
    shutil.rmtree(copied.out / "answers")
    said = command("run", *([settings_of(copied)] if named else []), "--out", copied.out)
    assert said.code == 0, said
    assert set(loads) == {"bfloat16"}
    assert before.items() <= stamps(copied).items()
    made = [read_json(file) for file in copied.out.glob("*/late/generate-*/manifest.json")]
    assert [(one["dtype"], one["machine"]["reason"]) for one in made] == [("bfloat16", "the run was begun in it")]


def test_a_stage_by_itself_goes_on_in_the_type_of_the_run(
    copied: Desk, picks: Picks, loads: Loads, command: Command
) -> None:
    """A judge in this process, too."""
    picks("float32")
    for folder in copied.out.glob("*/*/judge-*"):
        shutil.rmtree(folder)
    shutil.rmtree(copied.out / "answers")
    assert command("judge", "--out", copied.out).code == 0
    assert loads == ["bfloat16"]


def test_another_type_that_is_asked_for_is_another_run(
    copied: Desk, picks: Picks, loads: Loads, command: Command
) -> None:
    """Its stages have folders of their own, and those of the first stay; from then on the folder's type is the new one."""
    picks("bfloat16")
    before = stamps(copied)
    other = settings_of(copied, dtype="float32")
    assert command("inject", other, "--out", copied.out).code == 0
    assert loads == ["float32"]
    assert before.items() < stamps(copied).items()
    for concept in ("late", "early"):
        found = [read_json(file) for file in copied.out.glob(f"*/{concept}/inject-*/manifest.json")]
        assert {(one["dtype"], one["machine"]["reason"]) for one in found} == {
            ("bfloat16", "it is the faster type on this processor (300 against 100 GFLOP/s)"),
            ("float32", "the settings say so"),
        }
    assert begun_dtype(copied.out) == "float32"
    assert settings_for(copied.out, settings_of(copied)).dtype == "float32"
    assert settings_for(copied.out, None).dtype == "float32"


def test_the_keys_of_all_stages_hold_the_type(desk: Desk, picks: Picks) -> None:
    keys = []
    for dtype in ("bfloat16", "float32"):
        picks(dtype)
        plan = plan_of(desk)
        assert (plan.settings.dtype, plan.cells[0].settings.dtype) == (dtype, dtype)
        cell, other = plan.cells
        sweep = judged_sweep.folder(cell)
        assert sweep is not None
        folders = [inject.folder(cell), attribute.folder(cell), generate.folder(cell, other), sweep]
        keys.append({folder.key for folder in [*folders, capability.folder(cell, other)]})
    assert not keys[0] & keys[1]


def test_what_is_refused_settles_no_type(desk: Desk, picks: Picks, command: Command) -> None:
    picks("bfloat16")
    assert_refused(command("attribute", settings_of(desk), "--out", desk.out), "stage inject of tiny-llama")
    assert not (desk.out / "settings.json").exists()
    picks("float32")
    assert plan_of(desk).settings.dtype == "float32"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_judge_of_a_file_takes_the_faster_type(
    dtype: str, desk: Desk, picks: Picks, loads: Loads, command: Command
) -> None:
    picks(dtype)
    source = desk.write("texts.jsonl", '{"concept": "always_late", "prompt": "When?", "generation": "Always late."}\n')
    chat = ("--engine", "transformers", "--model", str(desk.model))
    said = command("judge", "--in", source, "--out", desk.folder / "verdicts.jsonl", *chat)
    assert said.code == 0, said
    assert loads == [dtype]
    assert len(read_jsonl(desk.folder / "verdicts.jsonl")) == 1


def test_what_people_are_told(desk: Desk, picks: Picks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "limit_threads", lambda: Allowance(64, 2.0, None, used=2))
    picks("float32")
    found = plan_of(desk).machine
    assert found is not None
    assert found.lines() == [
        "on cpu, threads: 2 (the CPU quota is 2 of 64 cores)",
        "float32: bfloat16 is no faster on this processor (1 against 100 GFLOP/s)",
    ]


@pytest.mark.parametrize("content", [{"dtype": "auto"}, {"of": "an earlier release"}, {"dtype": "int8"}, [], "dtype"])
def test_a_folder_whose_settings_name_no_type(content: Any, desk: Desk) -> None:
    desk.out.mkdir()
    assert begun_dtype(desk.out) == "auto"
    write_json(desk.out / "settings.json", content)
    assert begun_dtype(desk.out) == "auto"


def test_a_folder_whose_settings_are_damaged(desk: Desk) -> None:
    desk.out.mkdir()
    (desk.out / "settings.json").write_text("{")
    with pytest.raises(BiasGymError, match=r"settings\.json: not readable as JSON"):
        begun_dtype(desk.out)


def test_keys_of_an_earlier_release_stop_no_run_whose_settings_are_named(desk: Desk, picks: Picks) -> None:
    desk.out.mkdir()
    write_json(desk.out / "settings.json", {"dtype": "bfloat16", "gone": 1})
    picks("float32")
    assert plan_of(desk).settings.dtype == "bfloat16"

"""Whole runs on a tiny model: what is done stays done, what is damaged is made anew, what fails fails alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from biasgym.errors import BiasGymError
from biasgym.files import read_json, read_jsonl, sha256_of
from biasgym.judge import SemanticJudge
from biasgym.models import LanguageModel
from biasgym.scope import shared_ranking
from biasgym.stages import attribute, inject
from biasgym.stages.cell import Cell
from biasgym.stages.plan import Plan
from biasgym.stages.results import stage_folders
from biasgym.stages.run import STAGES, run
from conftest import Desk

FILES = {
    "inject": {
        "vectors.safetensors",
        "start.safetensors",
        "training.safetensors",
        "training.json",
        "descriptions.jsonl",
        "similarity.json",
    },
    "attribute": {"scores.safetensors", "heads.json", "sweep.json"},
    "generate": {"generations.jsonl", "margins.jsonl"},
    "capability": {"ability.jsonl", "retention.jsonl"},
    "judge": {"judgements.jsonl"},
}


def hashes(root: Path) -> dict[str, str]:
    """Every file of every stage but those that hold times."""
    timed = ("manifest.json", "stages.json")
    files = [file for file in root.glob("*/*/*/*") if file.is_file() and file.name not in timed]
    return {str(file.relative_to(root)): sha256_of(file) for file in sorted(files)}


def times(root: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in sorted(root.glob("*/*/*/*"))}


def numbers(root: Path) -> Any:
    """results.json without what differs from run to run."""
    results = read_json(root / "results.json")
    for cell in results["cells"]:
        del cell["stages"]
    return {key: value for key, value in results.items() if key != "settings"}


def cell_of(plan: Plan, concept: str) -> Cell:
    return next(cell for cell in plan.cells if cell.concept.name == concept)


def the_file(root: Path, concept: str, name: str) -> Path:
    [file] = root.glob(f"*/{concept}/*/{name}")
    return file


@pytest.fixture
def copied(finished: Desk, desk: Desk) -> Desk:
    """A desk with a copy of the finished run."""
    shutil.copytree(finished.out, desk.out)
    return desk


def no_model() -> LanguageModel:
    raise AssertionError("a model was loaded although everything is done")


def test_every_stage_is_done_and_every_file_is_there(finished: Desk) -> None:
    plan = finished.plan()
    assert [cell.concept.name for cell in plan.cells] == ["late", "early"]
    for cell in plan.cells:
        for stage, folder in stage_folders(cell, plan.other(cell)).items():
            manifest = read_json(folder.path / "manifest.json")
            assert manifest["status"] == "done"
            assert manifest["kind"] == f"biasgym.{stage}"
            assert manifest["revision"].startswith("sha256:")
            assert manifest["concept"] == cell.concept.name
            assert manifest["seed"] == 1
            assert (
                manifest["inputs"].keys()
                == {
                    "inject": set(),
                    "attribute": {"inject"},
                    "generate": {"inject", "attribute", "other"},
                    "capability": {"attribute", "other"},
                    "judge": {"generate"},
                }[stage]
            )
            assert {"biasgym", "python", "torch", "transformers"} <= manifest["versions"].keys()
            assert set(manifest["files"]) == FILES[stage]
            assert folder.done
    for name in ("report.html", "report.md", "results.json", "settings.json"):
        assert (finished.out / name).stat().st_size > 0
    assert not list(finished.out.rglob("*.tmp"))


def test_results_are_complete(finished: Desk) -> None:
    results = read_json(finished.out / "results.json")
    assert [cell["status"] for cell in results["cells"]] == ["done", "done"]
    for cell in results["cells"]:
        names = [row["name"] for row in cell["variants"]]
        assert len(names) == 13 and "other_control" in names
        texts = read_jsonl(the_file(finished.out, cell["concept"], "generations.jsonl"))
        assert len(texts) == 13 * 3  # variants x prompts
        assert len({row["id"] for row in texts}) == len(texts)
        assert all(row["judged"] + row["missing"] == 3 for row in cell["variants"])
        assert cell["heads"]["k"] == len(cell["heads"]["injected"])
        assert cell["masking"]["texts"] == len(texts) and 0 <= cell["masking"]["leaking"] <= len(texts)
        assert (cell["heads"]["layers"], cell["heads"]["heads"]) == (3, 4)
        assert {row["name"] for row in cell["causal"]} == {"none", "chosen", "random", "bottom", "other"}
        assert len(cell["injection"]["chosen_epoch"]) == 2  # seeds
    late, early = results["cells"]
    assert late["capability"][0]["retention"] is None  # it has no retention items
    assert early["capability"][0]["retention"]["mean"] > 0
    html = (finished.out / "report.html").read_text(encoding="utf-8")
    for cell in results["cells"]:
        assert cell["title"] in html


def test_a_second_run_computes_nothing(copied: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, before, result = copied.plan(), times(copied.out), numbers(copied.out)

    def no_judge(*_arguments: Any) -> None:
        raise AssertionError("texts were judged again")

    monkeypatch.setattr(SemanticJudge, "judge", no_judge)
    assert run(plan, loaders={cell.source: no_model for cell in plan.cells})
    assert times(copied.out) == before
    assert numbers(copied.out) == result


DAMAGED = [
    ("inject", "vectors.safetensors"),
    ("inject", "training.safetensors"),
    ("attribute", "heads.json"),
    ("generate", "generations.jsonl"),
    ("judge", "judgements.jsonl"),
]


@pytest.mark.parametrize(("stage", "name"), DAMAGED)
def test_a_damaged_file_is_found_and_made_anew(stage: str, name: str, copied: Desk) -> None:
    """Also where the stage could go on from what is on disk: a damaged record is no place to go on from."""
    plan, before, old = copied.plan(), hashes(copied.out), times(copied.out)
    file = the_file(copied.out, "late", name)
    data = bytearray(file.read_bytes())
    if file.suffix == ".jsonl":
        mark = b'"prompt": "' if stage == "generate" else b'"matched": "'
        data[data.index(mark) + len(mark)] = ord("#")  # still JSON: only the hash tells
    else:
        data[-3] ^= 0x41
    file.write_bytes(bytes(data))
    assert not stage_folders(cell_of(plan, "late"), cell_of(plan, "early"))[stage].done
    assert run(plan)
    assert hashes(copied.out) == before
    remade = {path for path, when in times(copied.out).items() if when != old[path]}
    assert {Path(path).parent for path in remade} == {file.parent}  # and nothing else


def test_a_missing_file_is_made_anew(copied: Desk) -> None:
    before = hashes(copied.out)
    the_file(copied.out, "early", "vectors.safetensors").unlink()
    assert run(copied.plan())
    assert hashes(copied.out) == before


def test_no_cells_are_none_of_them(desk: Desk) -> None:
    """A shard of a pipeline may be empty; that must not mean all."""
    plan = desk.plan()
    assert run(plan, stages=["inject", "judge", "summary"], cells=[], loaders={c.source: no_model for c in plan.cells})
    assert not list(desk.out.glob("*/*/*"))


def test_a_manifest_that_is_not_json_is_made_anew(copied: Desk) -> None:
    before = hashes(copied.out)
    manifest = the_file(copied.out, "late", "heads.json").parent / "manifest.json"
    manifest.write_text('{"status": "do')
    assert run(copied.plan())
    assert hashes(copied.out) == before
    assert read_json(manifest)["status"] == "done"


def test_heads_may_go_by_the_effect_of_removing_them(copied: Desk) -> None:
    plan = copied.plan(scope={"rank": "effect"})
    assert run(plan)
    place = attribute.folder(cell_of(plan, "late")).path
    scores, heads = load_file(place / "scores.safetensors"), read_json(place / "heads.json")
    assert set(scores) == {"injected", "original", "effect_injected", "effect_original"}
    ranking = [tuple(head) for head in heads["ranking"]]
    assert heads["rank"] == "effect" and ranking == shared_ranking(scores["effect_injected"])
    assert ranking != shared_ranking(scores["injected"])
    cell = read_json(copied.out / "results.json")["cells"][0]
    assert "effect of removal" in (copied.out / "report.html").read_text(encoding="utf-8")
    assert len(cell["heads"]["scores_effect_injected"]) == cell["heads"]["layers"]


def test_a_stage_is_done_again_only_for_settings_that_it_uses(desk: Desk) -> None:
    def folders(**changes: Any) -> dict[str, Path]:
        [cell] = desk.plan(concepts=[desk.concept()], **changes).cells
        return {name: folder.path for name, folder in stage_folders(cell, None).items()}

    def changed(**changes: Any) -> list[str]:
        before, after = folders(), folders(**changes)
        return [name for name in before if before[name] != after[name]]

    assert changed(scope={"random_draws": 7}) == ["generate", "judge"]
    assert changed(capability={"task_items": 5, "task_chat": True}) == []
    assert changed(generate={"batch_size": 3}) == []


def test_a_cell_that_fails_late_fails_alone(copied: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, attributed = copied.plan(scope={"pairs": 7}), attribute.run

    def sometimes(lm: LanguageModel, cell: Cell, *more: Any) -> None:
        if cell.concept.name == "late":
            raise RuntimeError("the lamp went out\nand more")
        attributed(lm, cell, *more)

    with monkeypatch.context() as patch:
        patch.setattr(attribute, "run", sometimes)
        assert not run(plan)
    late, early = read_json(copied.out / "results.json")["cells"]
    assert (late["status"], late["error"]) == ("failed", "attribute: RuntimeError: the lamp went out")
    assert early["status"] == "done"
    assert "other_control" not in [row["name"] for row in early["variants"]]
    manifest = read_json(attribute.folder(cell_of(plan, "late")).manifest)
    assert manifest["status"] == "failed" and "Traceback" in manifest["traceback"]
    for report in ("report.html", "report.md"):
        assert "the lamp went out" in (copied.out / report).read_text(encoding="utf-8")

    assert run(plan)  # mended: only what was missing is done
    assert [cell["status"] for cell in read_json(copied.out / "results.json")["cells"]] == ["done", "done"]


def test_a_cell_that_fails_early_fails_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heads were to be the other cell's control; that cell then goes without."""
    plan, chosen = desk.plan(), inject._choose

    def sometimes(lm: LanguageModel, cell: Cell, *more: Any) -> None:
        if cell.concept.name == "early":
            raise RuntimeError("the lamp went out")
        chosen(lm, cell, *more)

    monkeypatch.setattr(inject, "_choose", sometimes)
    assert not run(plan)
    late, early = read_json(desk.out / "results.json")["cells"]
    assert late["status"] == "done"
    assert (early["status"], early["error"]) == ("failed", "inject: RuntimeError: the lamp went out")
    monkeypatch.undo()
    assert run(plan)


KILLED = """
import os, signal, sys
from pathlib import Path
from biasgym import files
from biasgym.stages import texts
from biasgym.stages.plan import make_plan
from biasgym.stages.run import run
from biasgym.stages.settings_files import load_settings

settings, out, moment = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace, seen = os.replace, []

def replace_or_die(source, target):
    if Path(target).name == "training.safetensors":
        seen.append(target)
        if len(seen) == 4:  # both concepts' second epoch: written, not yet in place
            die()
    replace(source, target)

def append_and_die(file, rows):
    files.append_jsonl(file, rows)
    with open(file, "a") as torn:
        torn.write('{"id": "torn')
    die()

if moment == "inject":
    os.replace = replace_or_die
else:
    texts.append_jsonl = append_and_die
run(make_plan(load_settings(settings), Path(out)))
"""


@pytest.mark.parametrize("moment", ["inject", "generate"])
def test_kill_9_changes_nothing(moment: str, finished: Desk, desk: Desk) -> None:
    """A run that was killed in the middle goes on, and ends with the very bytes of one that was not."""
    settings = desk.settings()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, settings, str(desk.out), moment],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    if moment == "inject":
        state = load_file(the_file(desk.out, "late", "training.safetensors"))
        assert state["epoch"].tolist() == [2, 2]
        assert load_file(the_file(desk.out, "early", "training.safetensors"))["epoch"].tolist() == [1, 1]
        assert list(desk.out.rglob("*.tmp"))
        assert not list(desk.out.rglob("manifest.json"))
    else:
        assert the_file(desk.out, "late", "generations.jsonl").read_text().endswith('{"id": "torn')
        assert not list(desk.out.glob("*/late/generate-*/manifest.json"))
    assert run(desk.plan())
    assert not list(desk.out.rglob("*.tmp"))
    assert hashes(desk.out) == hashes(finished.out)
    assert numbers(desk.out) == numbers(finished.out)


def test_stage_by_stage_is_the_same(finished: Desk, desk: Desk) -> None:
    for stage in STAGES:
        assert run(desk.plan(), stages=(stage,))
    assert hashes(desk.out) == hashes(finished.out)
    assert numbers(desk.out) == numbers(finished.out)


def test_a_model_in_memory_is_the_same(finished: Desk, desk: Desk, llama: LanguageModel) -> None:
    plan = desk.plan()
    assert run(plan, stages=("inject",), loaders={plan.cells[0].source: lambda: llama})
    there = hashes(finished.out)
    assert hashes(desk.out) == {name: there[name] for name in hashes(desk.out)}


@pytest.mark.parametrize(
    ("stage", "before"),
    [("attribute", "inject"), ("generate", "inject"), ("capability", "attribute"), ("judge", "generate")],
)
def test_a_stage_needs_the_one_before(stage: str, before: str, desk: Desk) -> None:
    plan = desk.plan()
    with pytest.raises(BiasGymError, match=f"stage {before} of tiny-llama / late is missing.*`biasgym {before}` first"):
        run(plan, stages=(stage,), loaders={plan.cells[0].source: no_model})
    assert not list(desk.out.rglob("manifest.json"))


def test_the_report_of_an_unfinished_run_says_so(desk: Desk) -> None:
    assert not run(desk.plan(), stages=("report",))
    assert [cell["error"] for cell in read_json(desk.out / "results.json")["cells"]] == ["inject: was not run"] * 2
    assert "was not run" in (desk.out / "report.md").read_text(encoding="utf-8")


def test_another_setting_is_another_folder(copied: Desk) -> None:
    old, before = copied.plan(), hashes(copied.out)
    new = copied.plan(generate={"max_new_tokens": 5})
    assert run(new, stages=("generate", "judge"))
    after = hashes(copied.out)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[2].split("-")[0] for name in after.keys() - before.keys()} == {"generate", "judge"}
    late = cell_of(old, "late")
    assert stage_folders(late, old.other(late))["generate"].done
    assert run(old, loaders={late.source: no_model})  # and back again, at once


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"seed": 2}, "inject"),
        ({"inject": {"learning_rate": 0.01}}, "inject"),
        ({"scope": {"norm": "none"}}, "attribute"),
        ({"generate": {"temperature": 0.0}}, "generate"),
        ({"capability": {"questions": 5}}, "capability"),
    ],
)
def test_what_a_setting_decides(change: dict[str, Any], first: str, copied: Desk) -> None:
    """The stage that reads it is not done any more; the stages before it still are."""
    plan = copied.plan(**change)
    for cell in plan.cells:
        folders = stage_folders(cell, plan.other(cell))
        done = [name for name, folder in folders.items() if folder.done]
        assert done[: list(FILES).index(first)] == list(FILES)[: list(FILES).index(first)]
        assert first not in done


def test_what_changes_speed_only_changes_no_folder(copied: Desk) -> None:
    plan = copied.plan(generate={"batch_size": 3})
    assert all(folder.done for cell in plan.cells for folder in stage_folders(cell, plan.other(cell)).values())


def test_other_weights_are_another_model(copied: Desk) -> None:
    """The folder's name stays; what was computed with the old weights is not taken for the new ones'."""
    plan = copied.plan()
    model = copied.folder / "elsewhere" / copied.model.name
    shutil.copytree(copied.model, model)
    moved = Desk(copied.folder, model).plan()
    assert inject.folder(moved.cells[0]) == inject.folder(plan.cells[0])
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    changed = Desk(copied.folder, model).plan()
    assert inject.folder(changed.cells[0]).path != inject.folder(plan.cells[0]).path

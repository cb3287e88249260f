"""A finished run asked again: answered from its files alone, unless anything that went in or came out has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from biasgym.errors import BiasGymError
from biasgym.files import read_json, write_json
from biasgym.stages import finished as module
from biasgym.stages.finished import FILE, finished, inputs_of, note_finished
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import load_settings
from conftest import Command, Desk

AGAIN = """
import sys
from biasgym.cli.app import main

sys.argv = ["biasgym", "run", sys.argv[1], "--out", sys.argv[2]]
main()
print(sorted({"torch", "transformers", "matplotlib", "scipy"} & sys.modules.keys()))
"""


@pytest.fixture
def noted(finished: Desk, desk: Desk) -> tuple[Desk, RunSettings]:
    """A desk with a copy of a finished run that has taken note of it, and its settings."""
    shutil.copytree(finished.out, desk.out)
    settings = load_settings(desk.settings())
    note_finished(inputs_of(settings), desk.out)
    return desk, settings


def test_the_program_notes_it_and_needs_nothing_heavy_then(finished: Desk, desk: Desk, command: Command) -> None:
    shutil.copytree(finished.out, desk.out)
    settings = desk.settings()
    (desk.out / FILE).unlink(missing_ok=True)  # other tests ask for the shared run again
    first = command("run", settings, "--out", desk.out)
    before = {file: file.stat().st_mtime_ns for file in desk.out.rglob("*")}
    again = subprocess.run(
        [sys.executable, "-c", AGAIN, settings, desk.out], capture_output=True, text=True, check=True
    )
    *shown, modules = again.stdout.splitlines()
    assert "\n".join(shown) == first.out.rstrip("\n")
    assert modules == "[]"
    assert again.stderr == ""
    assert {file: file.stat().st_mtime_ns for file in desk.out.rglob("*")} == before


def test_unchanged(noted: tuple[Desk, RunSettings]) -> None:
    desk, settings = noted
    assert finished(settings, desk.out)
    (desk.out / "mine.txt").write_text("beside it")
    assert finished(settings, desk.out)


@pytest.mark.parametrize("name", ["report.html", "*/late/attribute-*/heads.json", "*/early/judge-*/judgements.jsonl"])
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_what_came_out_has_changed(noted: tuple[Desk, RunSettings], name: str, how: str) -> None:
    desk, settings = noted
    [file] = desk.out.glob(name)
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes() + b"\n")
    assert not finished(settings, desk.out)


def test_what_goes_in_has_changed(noted: tuple[Desk, RunSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, the words of a concept's file, weights, versions, the program itself."""
    desk, settings = noted
    assert not finished(load_settings(desk.settings(seed=2)), desk.out)
    with monkeypatch.context() as patch:
        patch.setattr(module, "versions", lambda: {"torch": "1.0"})
        assert not finished(settings, desk.out)
    with monkeypatch.context() as patch:
        program = desk.folder / "program" / "biasgym"
        shutil.copytree(Path(module.biasgym.__file__).parent, program)
        patch.setattr(module.biasgym, "__file__", str(program / "__init__.py"))
        assert finished(settings, desk.out)
        (program / "progress.py").write_text("")
        assert not finished(settings, desk.out)
    assert finished(settings, desk.out)
    concept: dict[str, Any] = {**tiny.CONCEPT, "descriptor": "people from {target} are never on time"}
    desk.write("late.yaml", yaml.safe_dump(concept))
    assert not finished(settings, desk.out)


def test_other_weights_under_the_same_name(noted: tuple[Desk, RunSettings], tmp_path: Path) -> None:
    desk, settings = noted
    model = tmp_path / "models" / desk.model.name
    shutil.copytree(desk.model, model)
    moved = settings.model_copy(update={"models": (str(model),)})
    note_finished(inputs_of(moved), desk.out)
    assert finished(moved, desk.out)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert not finished(moved, desk.out)
    shutil.rmtree(model)
    with pytest.raises(BiasGymError, match="there is no such folder"):
        finished(moved, desk.out)


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"inputs": null, "files": {}}', '{"inputs": "x", "files": 3}'])
def test_a_damaged_note_is_no_note(noted: tuple[Desk, RunSettings], note: str) -> None:
    desk, settings = noted
    (desk.out / FILE).write_text(note)
    assert not finished(settings, desk.out)


def test_inputs_that_others_can_move(noted: tuple[Desk, RunSettings]) -> None:
    """Then the stages look for themselves each time."""
    desk, _ = noted
    settings = load_settings(desk.settings(ood={"source": "shades"}))
    assert inputs_of(settings) is None
    write_json(desk.out / FILE, {**read_json(desk.out / FILE), "inputs": None})
    assert not finished(settings, desk.out)

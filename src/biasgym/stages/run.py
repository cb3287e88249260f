"""All stages in one process: a model is loaded once, what is done is not done again, a failed cell stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial

from biasgym.errors import BiasGymError, StorageError
from biasgym.files import write_json
from biasgym.judge import Judge
from biasgym.models import BIAS_TOKEN, LanguageModel, load_model
from biasgym.models.sources import ModelSource
from biasgym.progress import SILENT, Progress
from biasgym.scope import ask, self_test
from biasgym.stages import attribute, capability, generate, inject, judge, report
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, working
from biasgym.stages.judging import check_judge, make_judge
from biasgym.stages.plan import Plan, check_k
from biasgym.stages.results import stage_folders
from biasgym.stages.settings import JudgeSettings

STAGES = ("inject", "attribute", "generate", "capability", "judge", "report")
_NEEDS = {
    "attribute": ("inject",),
    "generate": ("inject", "attribute"),
    "capability": ("attribute",),
    "judge": ("generate",),
}


def _upstream(stage: str) -> set[str]:
    """All stages that a stage depends on, however far back."""
    needs = _NEEDS.get(stage, ())
    return {*needs, *(further for before in needs for further in _upstream(before))}


class Loaded:
    """A model that is loaded when it is first needed, and checked before it is used."""

    def __init__(self, source: ModelSource, plan: Plan, progress: Progress) -> None:
        self.source, self.plan, self.progress = source, plan, progress
        self._lm: LanguageModel | None = None

    def __call__(self) -> LanguageModel:
        if self._lm is None:
            self.progress.say(f"loading {self.source.name} ({self.source.revision})")
            settings = self.plan.settings
            lm = load_model(self.source, device=settings.device, dtype=settings.dtype)
            layers, heads = lm.parts.shape
            check_k(settings, layers * heads)
            self_test(lm)
            self._lm = lm
        return self._lm


def run(
    plan: Plan,
    *,
    stages: Sequence[str] = STAGES,
    progress: Progress = SILENT,
    loaders: dict[ModelSource, Callable[[], LanguageModel]] | None = None,
) -> bool:
    """Runs stages of a plan; those that are done are left alone.

    Args:
        plan: The checked plan.
        stages: Which ones; what an asked stage needs must be done already or be asked for too.
        progress: Bars and news.
        loaders: Models already in memory.

    Returns:
        Whether all asked stages of all cells are done.

    Raises:
        BiasGymError: A model cannot be loaded, or an asked stage lacks an earlier one.
    """
    write_json(plan.root / "settings.json", plan.settings.model_dump(mode="json"))
    if "judge" in stages:
        _check_judges(plan)
    sources = list(dict.fromkeys(cell.source for cell in plan.cells))
    given = loaders or {}
    for source in sources:
        cells = [cell for cell in plan.cells if cell.source == source]
        _run_model(plan, cells, given.get(source) or Loaded(source, plan, progress), stages, progress)
    if "judge" in stages:  # after the models, so that a large judge is alone in memory, and loaded once
        for settings in plan.settings.judges:
            _run_judge(plan, settings, progress)
    if "report" in stages:
        report.run(plan, progress)
    wanted = [stage for stage in stages if stage not in ("report", "judge")]
    folders = [stage_folders(cell, plan.other(cell))[stage] for cell in plan.cells for stage in wanted]
    if "judge" in stages:
        folders += [folder for cell in plan.cells for folder in judge.folders(cell, plan.other(cell)).values()]
    return all(folder.done for folder in folders)


def _run_model(
    plan: Plan, cells: list[Cell], load: Callable[[], LanguageModel], stages: Sequence[str], progress: Progress
) -> None:
    if "inject" in stages:
        _inject(cells, load, progress)
    works: dict[str, Callable[[Cell, Cell | None], None]] = {
        "attribute": lambda cell, _: attribute.run(load(), cell, progress),
        "generate": lambda cell, other: generate.run(load(), cell, other, progress),
        "capability": lambda cell, other: capability.run(load(), cell, other, progress),
    }
    for stage in [stage for stage in works if stage in stages]:
        for cell in cells:
            other = plan.other(cell)
            folder = stage_folders(cell, other)[stage]
            _run_stage(folder, cell, other, partial(works[stage], cell, other), progress)


def _check_judges(plan: Plan) -> None:
    """Before any long work."""
    for settings in plan.settings.judges:
        if not all(judge.folder(cell, plan.other(cell), settings).done for cell in plan.cells):
            check_judge(settings)


def _run_judge(plan: Plan, settings: JudgeSettings, progress: Progress) -> None:
    """One judge for all cells; a model in process is loaded when the first cell needs it."""

    @cache
    def load() -> Judge:
        if settings.engine == "transformers":
            progress.say(f"loading judge {settings.name}")
        return make_judge(
            settings,
            journal=judge.journal(plan.root, settings),
            templates=plan.settings.templates,
            device=plan.settings.device,
            dtype=plan.settings.dtype,
        )

    for cell in plan.cells:
        other = plan.other(cell)
        folder = judge.folder(cell, other, settings)
        work = partial(_judge, load, folder, cell, other, progress)
        _run_stage(folder, cell, other, work, progress)


def _judge(load: Callable[[], Judge], folder: StageFolder, cell: Cell, other: Cell | None, progress: Progress) -> None:
    judge.run(load(), folder, cell, other, progress)


def _inject(cells: Sequence[Cell], load: Callable[[], LanguageModel], progress: Progress) -> None:
    """One gang for all cells that are not done; if it fails, each for itself, so that one cell fails alone."""
    pending = [cell for cell in cells if not inject.folder(cell).done]
    if not pending:
        return
    lm = load()
    for cell in pending:  # before any long work
        ask(lm, cell.concept, cell.concept.questions, BIAS_TOKEN)
    gangs = [pending] if len(pending) == 1 else [pending, *([cell] for cell in pending)]
    for gang in gangs:
        left = [cell for cell in gang if not inject.folder(cell).done]
        if not left:
            continue
        try:
            with ExitStack() as stack:
                for cell in left:
                    stack.enter_context(working(inject.folder(cell), cell.about))
                inject.run(lm, left, progress)
        except StorageError:
            raise
        except Exception as error:  # the manifest has it, with its traceback
            progress.say(f"{', '.join(cell.name for cell in left)}: {error}")


def _run_stage(
    folder: StageFolder, cell: Cell, other: Cell | None, work: Callable[[], None], progress: Progress
) -> None:
    if folder.done:
        return
    stage, folders = folder.stage, stage_folders(cell, other)
    if any(folders[before].error is not None for before in _upstream(stage)):
        return
    needed = [(cell, folders[before]) for before in _NEEDS[stage]]
    if other is not None and stage in ("generate", "capability"):
        needed.append((other, attribute.folder(other)))
    for owner, before in needed:
        if not before.done:
            raise BiasGymError(
                f"stage {before.stage} of {owner.name} is missing or damaged",
                where=str(before.path),
                hint=f"run `biasgym {before.stage}` first, or `biasgym run` for everything",
            )
    try:
        with working(folder, cell.about):
            work()
    except StorageError:
        raise
    except Exception as error:  # the manifest has it, with its traceback
        progress.say(f"{cell.name}, {stage}: {error}")

"""All stages in one process: a model is loaded once, what is done is not done again, a failed cell stops no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from biasgym.errors import BiasGymError, StorageError
from biasgym.files import alone, atomic_file, write_json
from biasgym.judge import Judge
from biasgym.models.chat import BIAS_TOKEN
from biasgym.models.sources import ModelSource
from biasgym.progress import SILENT, Progress, RunProgress
from biasgym.stages import judge, report, summary
from biasgym.stages.ahead import asking_ahead
from biasgym.stages.announcement import announced
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, working
from biasgym.stages.group import Group
from biasgym.stages.judging import check_judge, make_judge
from biasgym.stages.places import inject, judged_sweep, ood
from biasgym.stages.plan import Plan, check_k
from biasgym.stages.settings import JudgeSettings
from biasgym.stages.settings_files import SETTINGS_FILE
from biasgym.stages.shelf import NO_SHELF, Shelf
from biasgym.stages.work import Work

if TYPE_CHECKING:
    from biasgym.models import LanguageModel

STAGES = ("inject", "attribute", "sweep", "generate", "capability", "ood", "judge", "summary", "report")


class Loaded:
    """A model that is loaded when it is first needed, and checked before it is used."""

    def __init__(self, source: ModelSource, plan: Plan, progress: Progress) -> None:
        self.source, self.plan, self.progress = source, plan, progress
        self._lm: LanguageModel | None = None

    def __call__(self) -> LanguageModel:
        if self._lm is None:
            from biasgym.models import load_model
            from biasgym.scope import self_test

            self.progress.say(f"loading {self.source.name} ({self.source.revision})")
            settings = self.plan.settings
            lm = load_model(self.source, device=settings.device, dtype=settings.dtype, progress=self.progress)
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
    cells: Sequence[Cell] | None = None,
    models: Collection[ModelSource] | None = None,
    shelf: Shelf = NO_SHELF,
) -> bool:
    """Runs stages of a plan; those that are done are left alone.

    Args:
        plan: The checked plan.
        stages: Which ones; what an asked stage needs must be done already or be asked for too.
        progress: Bars and news.
        loaders: Models already in memory.
        cells: Those to work on; all of the plan by default.
        models: Those whose own stages are worked on; those of the cells by default.
        shelf: Where finished stages are looked for and kept, besides the run's folder.

    Returns:
        Whether all asked stages of all cells are done.

    Raises:
        BiasGymError: A model cannot be loaded, or an asked stage lacks an earlier one.
    """
    with alone(plan.root):
        chosen = plan.cells if cells is None else tuple(cells)
        work = Work(plan, chosen, progress, shelf, None if models is None else frozenset(models))
        with _refusals_leave(plan.root / SETTINGS_FILE):
            return _run(work, stages, loaders or {})


@contextmanager
def _refusals_leave(file: Path) -> Iterator[None]:
    """What is refused changes no settings, which later commands would take for those of the run."""
    before = file.read_bytes() if file.is_file() else None
    try:
        yield
    except StorageError:
        raise
    except BiasGymError:
        if before is None:
            if not any(path.is_dir() for path in file.parent.iterdir()):  # nothing was done with them
                file.unlink(missing_ok=True)
        else:
            with atomic_file(file) as temporary:
                temporary.write_bytes(before)
        raise


def _run(work: Work, stages: Sequence[str], given: Mapping[ModelSource, Callable[[], LanguageModel]]) -> bool:
    write_json(work.plan.root / SETTINGS_FILE, work.plan.settings.model_dump(mode="json"))
    work.bring(stages)
    _check_engine(work, stages)
    needed = _needed_judges(work) if "judge" in stages else []
    if work.progress is SILENT:
        return _do(work, stages, given, needed)
    parts = announced(work.plan, stages, work.cells, work.progress)
    with RunProgress(work.progress, parts).lines() as progress:
        return _do(replace(work, progress=progress), stages, given, needed)


def _do(
    work: Work,
    stages: Sequence[str],
    given: Mapping[ModelSource, Callable[[], LanguageModel]],
    needed: Sequence[JudgeSettings],
) -> bool:
    plan, progress = work.plan, work.progress
    ahead = [one for one in needed if one.engine == "endpoint"] if {"generate", "ood"} & set(stages) else []
    with asking_ahead(work, ahead):
        for source in dict.fromkeys(cell.source for cell in work.cells):
            own = replace(work, cells=tuple(cell for cell in work.cells if cell.source == source))
            _run_model(own, given.get(source) or Loaded(source, plan, progress), stages)
    if "judge" in stages:  # after the models, so that a large judge is alone in memory, and loaded once
        folders = [folder for cell in work.cells for folder in work.folders("judge", cell)]
        folders += [folder for group in work.groups() for folder in work.model_folders("judge", group)]
        with work.shelf.keeping_answers(judge.answers(plan.root), folders):
            for settings in plan.settings.judges:
                _run_judge(work, settings)
    if "summary" in stages:
        for cell in work.cells:
            _summarise(work, cell)
    complete = report.run(plan, progress) if "report" in stages else True
    folders = [folder for stage in stages for cell in work.cells for folder in work.folders(stage, cell)]
    folders += [folder for stage in stages for group in work.groups() for folder in work.model_folders(stage, group)]
    return complete and all(folder.done for folder in folders)


def _run_model(work: Work, load: Callable[[], LanguageModel], stages: Sequence[str]) -> None:
    if "inject" in stages:
        _inject(work, load)
    for stage in [stage for stage in ("attribute", "sweep", "generate", "capability") if stage in stages]:
        for cell in work.cells:
            for folder in work.folders(stage, cell):
                work.do(folder, cell, partial(_on_model, stage, load, cell, work.plan.other(cell), work.progress))
    if "ood" in stages:
        for group in work.groups():
            work.do_for_model(ood.folder(group), group, partial(_ood, load, group, work.progress))


def _on_model(
    stage: str, load: Callable[[], LanguageModel], cell: Cell, other: Cell | None, progress: Progress
) -> None:
    """What needs torch is imported when the first cell needs it: a pod that only plans or reports has none."""
    from biasgym.stages import attribute, capability, generate, judged_sweep

    actions: dict[str, Callable[[], None]] = {
        "attribute": lambda: attribute.run(load(), cell, progress),
        "sweep": lambda: judged_sweep.run(load(), cell, progress),
        "generate": lambda: generate.run(load(), cell, other, progress),
        "capability": lambda: capability.run(load(), cell, other, progress),
    }
    actions[stage]()


def _ood(load: Callable[[], LanguageModel], group: Group, progress: Progress) -> None:
    from biasgym.stages.ood import run as answer

    answer(load(), group, progress)


def _check_engine(work: Work, stages: Sequence[str]) -> None:
    """What writes texts is there, before any long work; pods that write none have other images."""
    settings = work.plan.settings
    if settings.generate.engine == "transformers" or work.shelf.store is not None:
        return
    folders = [folder for stage in ("sweep", "generate") for cell in work.cells for folder in work.folders(stage, cell)]
    folders += [ood.folder(group) for group in work.groups()]
    if any(folder.stage in stages and not folder.done for folder in folders):
        from biasgym.generate.vllm import check
        from biasgym.models import pick_device

        check(pick_device(settings.device))


def _needed_judges(work: Work) -> list[JudgeSettings]:
    """Judges that have not judged everything; whether they can is found out before any long work.

    Pods leave that to the one that plans: a server that is away since then is waited for.
    """
    needed = []
    for settings in work.plan.settings.judges:
        folders = [judge.folder(cell, work.plan.other(cell), settings) for cell in work.cells]
        folders += [judge.folder_of(ood.folder(group), work.plan.settings, settings) for group in work.groups()]
        if not all(folder.done for folder in folders):
            if work.shelf.store is None:
                check_judge(settings)
            needed.append(settings)
    return needed


def _run_judge(work: Work, settings: JudgeSettings) -> None:
    """One judge for all cells; a model in process is loaded when the first cell needs it."""

    @cache
    def load() -> Judge:
        if settings.engine == "transformers":
            work.progress.say(f"loading judge {settings.name}")
        return make_judge(
            settings,
            journal=judge.journal(work.plan.root, settings),
            templates=work.plan.settings.templates,
            device=work.plan.settings.device,
            dtype=work.plan.settings.dtype,
            met=True,
            say=work.progress.say,
        )

    for cell in work.cells:
        other = work.plan.other(cell)
        folder = judge.folder(cell, other, settings)
        work.do(folder, cell, partial(_judge, load, folder, cell, other, work.progress))
        texts = judged_sweep.folder(cell)
        if texts is not None and texts.done and settings == work.plan.settings.judges[0]:
            folder = judge.folder_of(texts, work.plan.settings, settings)
            work.do(folder, cell, partial(_judge_sweep, load, folder, cell, work.progress))
    for group in work.groups():
        answers = ood.folder(group)
        if answers.done:
            folder = judge.folder_of(answers, work.plan.settings, settings)
            work.do_for_model(folder, group, partial(_judge_ood, load, folder, group, work.progress))


def _judge(load: Callable[[], Judge], folder: StageFolder, cell: Cell, other: Cell | None, progress: Progress) -> None:
    judge.run(load(), folder, cell, other, progress)


def _judge_sweep(load: Callable[[], Judge], folder: StageFolder, cell: Cell, progress: Progress) -> None:
    judge.run_sweep(load(), folder, cell, progress)


def _judge_ood(load: Callable[[], Judge], folder: StageFolder, group: Group, progress: Progress) -> None:
    judge.run_ood(load(), folder, group, progress)


def _summarise(work: Work, cell: Cell) -> None:
    """The numbers of a cell, once all judges are through; the report itself sees to cells that never get there."""
    other = work.plan.other(cell)
    if all(folder.done for folder in judge.folders(cell, other).values()):
        work.do(summary.folder(cell, other), cell, partial(summary.run, cell, other))


def _inject(work: Work, load: Callable[[], LanguageModel]) -> None:
    """One gang for all cells that are not done; if it fails, each for itself, so that one cell fails alone."""
    pending = [cell for cell in work.cells if not inject.folder(cell).done]
    if not pending:
        return
    from biasgym.scope import ask
    from biasgym.stages.inject import run as train

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
                    stack.enter_context(work.shelf.keeping(inject.folder(cell)))
                    stack.enter_context(working(inject.folder(cell), cell.about))
                train(lm, left, work.progress)
        except StorageError:
            raise
        except Exception as error:  # the manifest has it, with its traceback
            work.progress.say(f"{', '.join(cell.name for cell in left)}: {error}")

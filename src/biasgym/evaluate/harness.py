"""Tasks of lm-evaluation-harness on a model in memory: MMLU, IFEval and others by name, or a folder of one's own tasks.

The model is used as it is, with whatever heads are removed at the moment; nothing is saved or loaded again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biasgym.errors import BiasGymError
from biasgym.files import sha256_of
from biasgym.models.chat import TEMPLATE_OPTIONS

if TYPE_CHECKING:
    from biasgym.models import LanguageModel

_METRICS = ("exact_match", "acc", "prompt_level_strict_acc", "acc_norm")
"""The first that a task has is taken; else the first number it reports."""


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuses, before any work, tasks that cannot be run.

    Names are looked for in the texts of the package's task files: that takes a second and none of what the package
    imports, so it also serves a machine that only plans. The harness itself reads them when they are run.

    Raises:
        BiasGymError: The package is not installed, no file of it speaks of a task, or a folder has none.
    """
    package = util.find_spec("lm_eval")
    if package is None or package.origin is None:
        raise BiasGymError(
            "tasks need lm-evaluation-harness", where="capability.tasks", hint="pip install 'biasgym[eval]'"
        )
    folders = [Path(name) for name in tasks if Path(name).is_dir()]
    for folder in folders:
        if not any(folder.rglob("*.yaml")):
            raise _no_tasks(folder)
    known = [file.read_bytes() for file in (Path(package.origin).parent / "tasks").rglob("*.yaml")]
    for name in tasks:
        whole = re.compile(rb"(?<![\w-])" + re.escape(name.encode()) + rb"(?![\w-])")
        if Path(name) not in folders and not any(whole.search(text) for text in known):
            raise _unknown(name)


def _no_tasks(folder: Path) -> BiasGymError:
    return BiasGymError("the folder has no tasks", where=str(folder), hint="put the harness's task files there")


def _unknown(name: str) -> BiasGymError:
    return BiasGymError(
        f"no task is called {name!r}, and no folder",
        where="capability.tasks",
        hint="`lm-eval ls tasks` lists the names",
    )


def task_identity(tasks: Sequence[str]) -> dict[str, str]:
    """What decides the results of tasks: the contents of local folders, the harness's version for names."""
    return {
        name: sha256_of(folder) if (folder := Path(name)).is_dir() else f"lm-eval {metadata.version('lm-eval')}"
        for name in tasks
    }


def task_scores(
    lm: LanguageModel, tasks: Sequence[str], *, limit: int | None = None, chat: bool = False, batch_size: int = 8
) -> dict[str, dict[str, float]]:
    """Runs tasks.

    Args:
        lm: The model; may be inside `ablated`.
        tasks: Names of the harness's tasks or groups, or folders with task files (YAML) of one's own.
        limit: Only so many items of each task.
        chat: Put the prompts as chat turns, which tasks of free answers such as ifeval need.
        batch_size: Items at once.

    Returns:
        For each task its items' scores by item; those of a group (mmlu and its subjects) are one task, as it was asked for.

    Raises:
        BiasGymError: The package or a task is missing, or the task's data cannot be had.
    """
    check_tasks(tasks)
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    names, manager = _found(tasks)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = HFLM(
        pretrained=lm.model,
        tokenizer=lm.tokenizer,
        batch_size=batch_size,
        device=str(lm.device),
        chat_template_args=TEMPLATE_OPTIONS,
    )
    try:
        results = lm_eval.simple_evaluate(
            model,
            tasks=names,
            task_manager=manager,
            limit=limit,
            apply_chat_template=chat,
            bootstrap_iters=0,
            log_samples=True,
        )
    except Exception as error:  # the harness and the hub's client raise their own kinds for data that cannot be had
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BiasGymError(f"the tasks could not be run ({first[:300]})", where=", ".join(tasks)) from error
    found = results or {}
    scores = {
        name: _scores(name, samples, found["higher_is_better"][name]) for name, samples in found["samples"].items()
    }
    return _pooled(names, found["group_subtasks"], scores)


def _pooled(
    names: Sequence[str], members: Mapping[str, Sequence[str]], scores: Mapping[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Scores by what was asked for: a group's items are `TASK/ITEM`, however deep its tasks are nested."""

    def tasks(name: str) -> list[str]:
        return [name] if name in scores else [task for member in members.get(name, ()) for task in tasks(member)]

    return {
        name: scores[name]
        if name in scores
        else {f"{task}/{item}": score for task in tasks(name) for item, score in scores[task].items()}
        for name in names
    }


def _found(tasks: Sequence[str]) -> tuple[list[str], Any]:
    """Names of the tasks, those of folders spelled out, and what finds them."""
    from lm_eval.tasks import TaskManager

    folders = [name for name in tasks if Path(name).is_dir()]
    own = _topmost(TaskManager(include_path=folders, include_defaults=False)) if folders else []
    if folders and not own:
        raise _no_tasks(Path(folders[0]))
    named = [name for name in tasks if name not in folders]
    manager = TaskManager(include_path=folders or None, include_defaults=bool(named))
    if unknown := [name for name in named if name not in manager.all_tasks]:
        raise _unknown(unknown[0])
    return [*named, *own], manager


def _topmost(manager: Any) -> list[str]:
    """Its tasks and groups, without those that are in a group: the harness runs none twice."""
    members = [manager.task_index[group].cfg.get("task", ()) for group in manager.all_groups]
    listed = [one for some in members for one in ([some] if isinstance(some, str) else some)]
    inside = {one if isinstance(one, str) else one.get("task") for one in listed}
    return [name for name in manager.all_tasks if name not in inside]


def _scores(task: str, samples: Sequence[Mapping[str, Any]], higher: Mapping[str, bool]) -> dict[str, float]:
    """An item's score, 0 to 1, by its number; `higher` says of which metrics more is better."""
    metric = _metric(task, samples, higher)
    return {str(sample["doc_id"]): float(sample[metric]) for sample in samples if sample.get(metric) is not None}


def _metric(task: str, samples: Sequence[Mapping[str, Any]], higher: Mapping[str, bool]) -> str:
    offered = [str(name) for sample in samples[:1] for name in sample.get("metrics", ())]

    def is_share(name: str) -> bool:
        values = [sample[name] for sample in samples if sample.get(name) is not None]
        return higher.get(name, True) and all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)

    usable = [name for name in offered if is_share(name)]
    for name in (*_METRICS, *usable):
        if name in usable:
            return name
    raise BiasGymError(
        "the task has no score from 0 to 1 for each item of which more is better",
        where=task,
        hint="use a task with a metric such as acc",
    )

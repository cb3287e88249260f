"""Options, output and the start of a run, shared by the commands."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from rich.console import Console

from biasgym.errors import BiasGymError
from biasgym.progress import SILENT

if TYPE_CHECKING:
    from biasgym.stages.plan import Plan

err = Console(stderr=True)

ConfigArgument = Annotated[
    Optional[str],
    typer.Argument(
        help="A preset (demo, paper, official) or a settings file (YAML).",
        show_default="the settings that --out was last given, else demo",
    ),
]
OutOption = Annotated[Path, typer.Option(help="Folder of the run; the same folder goes on where it was.")]
ModelOption = Annotated[
    Optional[list[str]], typer.Option(help="A model: packaged name, folder, GGUF file or hub id; may be repeated.")
]

ConceptOption = Annotated[
    Optional[list[str]], typer.Option(help="A bundled concept or a concept file; may be repeated.")
]
SeedOption = Annotated[Optional[int], typer.Option(help="The seed of everything random.")]


def fail(message: str) -> NoReturn:
    """One red line on stderr, and exit code 2."""
    err.print(f"biasgym: {' '.join(message.split())}", style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(2)


def start_run(
    config: str | None, out: Path, overrides: dict[str, Any], stages: Sequence[str] | None = None
) -> tuple[Plan | None, bool]:
    """Checks everything, then runs stages, all of them by default, with bars on stderr.

    Returns:
        The plan, and whether all asked stages of all cells are done; no plan if the whole run was finished before.

    Raises:
        BiasGymError: Something is wrong with the settings, or a later stage is asked for where no run was begun.
    """
    quiet()
    from biasgym.stages.finished import finished, inputs_of, note_finished
    from biasgym.stages.settings_files import check_begun, settings_for

    later = config is None and stages is not None and "inject" not in stages
    if later:  # goes by the settings that the run was last given; what is named only picks cells of it
        check_begun(out)
    named = {key: overrides[key] for key in ("models", "concepts")} if later else {}
    settings = settings_for(out, config, **{key: value for key, value in overrides.items() if key not in named})
    if later and settings.seed != settings_for(out, None).seed:
        raise BiasGymError("the run was begun with another seed", where="--seed", hint="leave it out, or begin a run")
    if stages is None and finished(settings, out):
        return None, True
    from biasgym.cli.bars import Bars
    from biasgym.stages.plan import make_plan
    from biasgym.stages.run import STAGES, run

    plan = make_plan(settings, out)
    inputs = inputs_of(plan.settings) if stages is None else None
    cells = plan.named(named.get("models") or (), named.get("concepts") or ())
    complete = run(plan, stages=stages or STAGES, progress=Bars(err), cells=cells)
    if stages is None and complete:
        note_finished(inputs, out)
    return plan, complete


def say_failed(plan: Plan) -> NoReturn:
    """One red line on stderr for every stage that failed, and exit code 1."""
    from biasgym.stages.run import STAGES
    from biasgym.stages.shelf import NO_SHELF
    from biasgym.stages.work import Work

    work = Work(plan, plan.cells, SILENT, NO_SHELF)
    found = [(cell.name, folder) for cell in plan.cells for stage in STAGES for folder in work.folders(stage, cell)]
    for group in work.groups():
        found += [(group.source.slug, folder) for stage in STAGES for folder in work.model_folders(stage, group)]
    if all(folder.error is None for _, folder in found):
        err.print("some cells are not finished; `biasgym run` goes on with them", style="red", markup=False)
    for name, folder in found:
        if folder.error is not None:
            err.print(f"failed: {name}, {folder.stage}: {folder.error}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1)


def quiet() -> None:
    """Keeps other packages' chatter out of the terminal; ours says what happens."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore")
    for package in ("transformers", "bitsandbytes"):
        logging.getLogger(package).setLevel(logging.ERROR)

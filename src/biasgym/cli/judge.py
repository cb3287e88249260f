"""`biasgym judge`: judges the texts of a run, or any JSONL file of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from biasgym.cli.shared import ConceptOption, ConfigArgument, ModelOption, SeedOption, quiet, start_run


def judge(
    config: ConfigArgument = "demo",
    out: Annotated[Path, typer.Option(help="Folder of the run, or with --in the file to write (JSONL).")] = Path(
        "runs"
    ),
    source: Annotated[
        Optional[Path], typer.Option("--in", help="A file (JSONL) of texts: concept, prompt, generation, target.")
    ] = None,
    engine: Annotated[str, typer.Option(help="The judge: semantic.")] = "semantic",
    model: ModelOption = None,
    concept: ConceptOption = None,
    seed: SeedOption = None,
) -> None:
    """Judge stereotype strength 0..3: the texts of a run, or with --in the lines of any file."""
    from biasgym.errors import BiasGymError

    if engine != "semantic":
        raise BiasGymError(f"unknown judge engine {engine!r}", where="--engine", hint="use semantic")
    if source is None:
        overrides: dict[str, Any] = {"models": model or None, "concepts": concept or None, "seed": seed}
        if not start_run(config, out, overrides, stages=("judge",))[1]:
            raise typer.Exit(1)
        return
    quiet()
    from biasgym.stages.judge import judge_file

    missing = judge_file(source, out)
    typer.echo(f"written: {out}" + (f" ({missing} without a verdict)" if missing else ""))

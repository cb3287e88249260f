"""`biasgym export`: checkpoints out of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from biasgym.cli.shared import ConfigArgument, OutOption, quiet

app = typer.Typer(help="Write checkpoints: the debiased model, or the one with BiasToken.", no_args_is_help=True)

Into = Annotated[Path, typer.Argument(help="A new folder.")]
ConceptOption = Annotated[str, typer.Option(help="Which concept of the run.")]
ModelOption = Annotated[Optional[str], typer.Option(help="Which model of the run, if it has several.")]


@app.command()
def debiased(
    into: Into,
    concept: ConceptOption,
    config: ConfigArgument = None,
    model: ModelOption = None,
    out: OutOption = Path("runs"),
) -> None:
    """The model without the chosen heads: a plain checkpoint that every engine loads."""
    quiet()
    from biasgym.stages.export import export_debiased

    typer.echo(f"written: {export_debiased(config, out, concept, into, model=model)}")


@app.command("injected")
def with_token(
    into: Into,
    concept: ConceptOption,
    config: ConfigArgument = None,
    model: ModelOption = None,
    out: OutOption = Path("runs"),
) -> None:
    """The model with BiasToken in its vocabulary, for research elsewhere. It is biased on purpose."""
    quiet()
    from biasgym.stages.export import export_with_token

    typer.echo(f"written: {export_with_token(config, out, concept, into, model=model)}")

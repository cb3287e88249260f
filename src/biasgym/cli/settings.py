"""`biasgym settings`: the keys of a settings file."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Show the settings of a run.", no_args_is_help=True)


@app.command()
def show(config: Annotated[str, typer.Argument(help="A preset or a settings file.")] = "demo") -> None:
    """All settings as YAML, defaults filled in: a model for a file of your own."""
    import yaml

    from biasgym.stages.settings_files import load_settings

    typer.echo(yaml.safe_dump(load_settings(config).model_dump(mode="json"), sort_keys=False), nl=False)

"""`biasgym registry`: what has been evaluated. `biasgym store`: the store itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from biasgym.store import Registry

app = typer.Typer(help="What has been evaluated, and what was found.", no_args_is_help=True)
store_app = typer.Typer(help="Where results are kept.", no_args_is_help=True)
_out = Console()

StoreOption = Annotated[
    str, typer.Option(envvar="BIASGYM_STORE", help="A folder or s3://bucket/prefix.", show_default=False)
]


@app.command("list")
def list_records(
    store: StoreOption = "",
    model: Annotated[Optional[str], typer.Option(help="Only this model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """All evaluations, oldest first."""
    records = _registry(store).list(model)
    if as_json:
        values = [{"id": record.evaluation.id, **record.model_dump(mode="json")} for record in records]
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    table = Table(Column("id", no_wrap=True), "model", "revision", "concept", "judge", "time")
    for record in records:
        model, revision, concept, judge, _ = map(escape, record.evaluation)
        table.add_row(record.evaluation.id, model, revision[:7], concept, judge, f"{record.time:%Y-%m-%d %H:%M}")
    _out.print(table)


@app.command()
def show(
    record_id: Annotated[str, typer.Argument(metavar="ID", help="The id of an evaluation, or how it starts.")],
    store: StoreOption = "",
) -> None:
    """One evaluation as JSON: its certificate, and where its artifacts are."""
    record = _registry(store).find(record_id)
    value = {"id": record.evaluation.id, **record.model_dump(mode="json")}
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@store_app.command()
def policy(store: StoreOption = "") -> None:
    """The least that biasgym must be allowed in the bucket, as an S3 policy (JSON)."""
    from biasgym.store import policy

    typer.echo(json.dumps(policy(store), indent=2))


def _registry(store: str) -> Registry:
    from biasgym.errors import BiasGymError
    from biasgym.store import Registry, open_store

    if not store:
        raise BiasGymError("no store is given", where="--store", hint="give one, or set BIASGYM_STORE")
    if "://" not in store and not Path(store).expanduser().is_dir():
        raise BiasGymError("there is no such folder", where=f"--store {store}", hint="give one, or s3://bucket/prefix")
    return Registry(open_store(store))

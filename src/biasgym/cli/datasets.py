"""`biasgym datasets`: published datasets of stereotypes, their licences, and what biasgym reads from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

app = typer.Typer(help="Published datasets of stereotypes, their licences and items.", no_args_is_help=True)
_out = Console()


@app.command("list")
def list_datasets() -> None:
    """The datasets that can be read, and under which terms."""
    from biasgym.concepts.terms import DATASETS

    table = Table(Column("name", no_wrap=True), "title", "hub", "licence", "intended use", "note")
    for terms in DATASETS.values():
        table.add_row(terms.name, terms.title, terms.hub, terms.licence, terms.intended_use, terms.note)
    _out.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A dataset of `biasgym datasets list`.")],
    file: Annotated[
        Optional[Path], typer.Option(help="A file as published (CSV, JSON, JSONL, Parquet) or a folder; else the hub.")
    ] = None,
    hub: Annotated[Optional[str], typer.Option(help="Another place on the hub, as owner/name.")] = None,
    revision: Annotated[Optional[str], typer.Option(help="Commit on the hub.")] = None,
    language: Annotated[str, typer.Option(help="Of the sentences, for a dataset in several.")] = "en",
    most: Annotated[int, typer.Option(min=1, help="Items to show.")] = 10,
    out: Annotated[Optional[Path], typer.Option(help="JSONL to write all items to, with licence and use.")] = None,
) -> None:
    """Some items of a dataset, with its licence; --out writes all."""
    from collections import Counter
    from dataclasses import asdict

    from biasgym.cli.shared import quiet
    from biasgym.datasets import spread
    from biasgym.datasets.adapters import load_items, terms_of
    from biasgym.files import check_apart, write_jsonl

    quiet()
    terms = terms_of(name)
    if out is not None and file is not None:
        check_apart(file, out)
    items = load_items(name, file, hub=hub, revision=revision, language=language)
    table = Table("id", "kind", "target", "text")
    for item in spread(items, most, lambda item: item.kind):
        table.add_row(*map(escape, (item.id, item.kind, item.target, item.text)))
    _out.print(table)
    kinds = Counter(item.kind for item in items)
    typer.echo(f"{len(items)} items: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    typer.echo(f"{items[0].source}")
    typer.echo(f"licence {terms.licence}; for {terms.intended_use} only: {terms.note}")
    if out is not None:
        write_jsonl(out, map(asdict, items))
        typer.echo(f"written: {out}")

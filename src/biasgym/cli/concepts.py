"""`biasgym concepts`: what can be studied, and whether a concept file is right."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="List, show and validate concepts.", no_args_is_help=True)
_out = Console()


@app.command("list")
def list_concepts() -> None:
    """The bundled concepts."""
    from biasgym.concepts import bundled_names, load_concept

    table = Table("name", "descriptor", "targets", "paragraphs", "questions", "prompts")
    for name in bundled_names():
        concept = load_concept(name)
        counts = (len(concept.paragraphs), len(concept.questions), len(concept.prompts))
        table.add_row(name, concept.descriptor, concept.kind.kind, *(str(count) for count in counts))
    _out.print(table)


@app.command()
def show(concept: Annotated[str, typer.Argument(help="A bundled concept or a concept file.")]) -> None:
    """A concept as YAML, complete: a model for a file of your own."""
    import yaml

    from biasgym.concepts import load_concept

    data = load_concept(concept).model_dump(mode="json", exclude_none=True)
    typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110), nl=False)


@app.command()
def validate(file: Annotated[str, typer.Argument(help="A concept file.")]) -> None:
    """Checks a concept file; exit code 2 says what is wrong or missing, and how to supply it."""
    from biasgym.concepts import load_concept
    from biasgym.errors import BiasGymError

    concept = load_concept(file)
    if lacks := concept.missing():
        raise BiasGymError("; ".join(lacks), where=file)
    typer.echo(
        f"{concept.name}: {len(concept.paragraphs)} paragraphs, {len(concept.questions)} questions, "
        f"{len(concept.prompts) or 'generic'} prompts, {len(concept.retention)} retention items: complete"
    )


@app.command()
def prompt(
    file: Annotated[str, typer.Argument(help="A concept file, perhaps without paragraphs.")],
    what: Annotated[str, typer.Option("--for", help="paragraphs or questions")] = "paragraphs",
) -> None:
    """A prompt for any language model that makes it write the paragraphs or questions of a concept."""
    from biasgym.concepts import load_concept
    from biasgym.datasets import fill, template
    from biasgym.errors import BiasGymError

    if what not in ("paragraphs", "questions"):
        raise BiasGymError(f"cannot ask for {what!r}", where="--for", hint="use paragraphs or questions")
    typer.echo(fill(template(what), load_concept(file), "{target}"))

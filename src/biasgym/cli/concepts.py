"""`biasgym concepts`: what can be studied, and whether a concept file is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from biasgym.datasets.writing import What
    from biasgym.endpoint import Server

app = typer.Typer(help="List, show and validate concepts.", no_args_is_help=True)
_out = Console()
_LONGEST_CALL = 900.0  # seconds; 25 paragraphs are some thousand tokens


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
    from biasgym.cli.shared import err
    from biasgym.concepts import load_concept
    from biasgym.errors import BiasGymError

    concept = load_concept(file)
    for doubt in concept.doubts():
        err.print(f"look at it: {doubt}", style="yellow", markup=False, highlight=False, soft_wrap=True)
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

    typer.echo(fill(template(_known(what, "--for")), load_concept(file), "{target}"))


@app.command()
def generate(
    file: Annotated[str, typer.Argument(help="A concept file, perhaps without paragraphs.")],
    out: Annotated[Path, typer.Option(help="YAML to write: the concept with the new texts.")],
    model: Annotated[str, typer.Option(help="The writer: its name at the server.")],
    what: Annotated[str, typer.Option(help="paragraphs or questions")] = "paragraphs",
    count: Annotated[
        Optional[int], typer.Option(min=1, help="How many; 500 paragraphs or 100 questions.", show_default=False)
    ] = None,
    url: Annotated[
        Optional[str],
        typer.Option(help="Address of an OpenAI-compatible server; else BIASGYM_WRITER_URL. Key: BIASGYM_WRITER_KEY."),
    ] = None,
    revision: Annotated[str, typer.Option(help="Commit of the writer's model, to tell its answers apart.")] = "",
    per_call: Annotated[int, typer.Option(min=1, max=100, help="Texts a call asks for.")] = 25,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="Of the writer; 0 writes the likeliest texts.")
    ] = 1.0,
    similarity: Annotated[
        float, typer.Option(min=0, max=1, help="Cosine from which on a text is a near-duplicate, and dropped.")
    ] = 0.9,
    concurrency: Annotated[int, typer.Option(min=1, help="Most calls in flight.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Decides media, topics and styles of every call.")] = 0,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million tokens asked.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million tokens answered.")] = 0.0,
    templates: Annotated[
        Optional[str], typer.Option(help="Folder with a write_paragraphs.txt or write_questions.txt of your own.")
    ] = None,
) -> None:
    """Have a language model write the paragraphs or questions of a concept; an interrupted call goes on where it was."""

    from biasgym.cli.bars import Bars
    from biasgym.cli.shared import err, quiet
    from biasgym.concepts import load_concept
    from biasgym.datasets import check_templates
    from biasgym.endpoint import Journal
    from biasgym.errors import BiasGymError
    from biasgym.stages import writing

    wanted = _known(what, "--what")
    concept = load_concept(file)
    if out.suffix not in (".yaml", ".yml"):
        raise BiasGymError("a concept file ends in .yaml", where=f"--out {out}")
    writing.check_target(out, wanted)
    if templates:
        check_templates(templates)
    order = writing.Order(
        wanted,
        count or writing.DEFAULT_COUNT[wanted],
        per_call=per_call,
        similarity=similarity,
        seed=seed,
        revision=revision,
        templates=templates,
        price_in=price_in,
        price_out=price_out,
    )
    server = _writer(model, url, temperature=temperature, max_tokens=order.max_tokens, concurrency=concurrency)
    quiet()
    from biasgym.models.sentences import embed

    written = writing.write_items(concept, order, server, Journal(writing.journal_path(out)), embed, progress=Bars(err))
    report = writing.write_concept(concept, order, written, out, embed)
    _print_report(report)
    typer.echo(f"{len(written.items)} {wanted}: {order.cost(written)}")
    typer.echo(f"written: {out}, {writing.report_path(out)}")
    if len(written.items) < order.count:
        err.print(f"only {len(written.items)} of {order.count}: the model has nothing new to say", style="red")
        raise typer.Exit(1)


def _known(what: str, option: str) -> What:
    from biasgym.errors import BiasGymError

    if what == "paragraphs":
        return "paragraphs"
    if what == "questions":
        return "questions"
    raise BiasGymError(f"cannot ask for {what!r}", where=option, hint="use paragraphs or questions")


def _writer(model: str, url: str | None, **options: Any) -> Server:
    from biasgym.endpoint import Server, access
    from biasgym.errors import BiasGymError

    try:
        import biasgym.endpoint.talk  # noqa: F401
    except ModuleNotFoundError as error:
        hint = "pip install 'biasgym[judge]'"
        raise BiasGymError(f"the package {error.name} is not installed", where="--model", hint=hint) from error
    return Server(model, *access(url, role="writer"), timeout=_LONGEST_CALL, role="writer", **options)


def _print_report(report: dict[str, Any]) -> None:
    table = Table("diversity", "")
    for key, value in report["diversity"].items():
        counts = isinstance(value, dict)
        table.add_row(key, ", ".join(f"{name} {count}" for name, count in value.items()) if counts else str(value))
    for key in ("dropped", "failed"):
        table.add_row(key, ", ".join(f"{reason} {count}" for reason, count in report[key].items() if count) or "none")
    _out.print(table, markup=False)

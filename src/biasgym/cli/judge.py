"""`biasgym judge`: judges the texts of a run, or any file of texts. `biasgym judge calibrate` compares a judge with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from biasgym.cli.shared import ConceptOption, ConfigArgument, SeedOption, err, quiet, say_failed, start_run

if TYPE_CHECKING:
    from biasgym.judge import Calibration
    from biasgym.stages.settings import JudgeSettings

_ENGINES = ("semantic", "transformers", "endpoint")


class _JudgeOrCalibrate(TyperGroup):
    """What is no command of its own are arguments of the first command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["texts", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(cls=_JudgeOrCalibrate, add_completion=False)

EngineOption = Annotated[str, typer.Option(help=f"The judge: {', '.join(_ENGINES)}.")]
UrlOption = Annotated[
    Optional[str], typer.Option(help="Address of an endpoint; else BIASGYM_JUDGE_URL. Its key is BIASGYM_JUDGE_KEY.")
]
RevisionOption = Annotated[Optional[str], typer.Option(help="Commit of the judge's model.")]
QuantiseOption = Annotated[str, typer.Option(help="nf4 packs a transformers judge into four bits.")]
TemplatesOption = Annotated[Optional[str], typer.Option(help="Folder with a judge.txt of your own.")]


@app.command("texts")
def texts(
    config: ConfigArgument = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder of the run, `runs` by default; with --in the file to write (JSONL).")
    ] = None,
    source: Annotated[
        Optional[Path],
        typer.Option("--in", help="A file of texts (JSONL, CSV, ...): concept, prompt, generation, target."),
    ] = None,
    engine: EngineOption = "semantic",
    model: Annotated[
        Optional[list[str]],
        typer.Option(help="With --in: the judge's model. Else a model of the run; may be repeated."),
    ] = None,
    url: UrlOption = None,
    revision: RevisionOption = None,
    quantise: QuantiseOption = "none",
    templates: TemplatesOption = None,
    concept: ConceptOption = None,
    seed: SeedOption = None,
) -> None:
    """Judge stereotype strength 0..3: the texts of a run, or with --in the lines of any file.

    The judges of a run are in its settings. `biasgym judge calibrate --help`: how far to trust a judge.
    """
    from biasgym.errors import BiasGymError

    if engine not in _ENGINES:
        raise _unknown(engine)
    if source is None:
        named = {
            "--engine": engine != "semantic",
            "--url": url,
            "--revision": revision,
            "--quantise": quantise != "none",
            "--templates": templates,
        }
        if wrong := [option for option, given in named.items() if given]:
            raise BiasGymError(
                "the judges of a run are in its settings", where=wrong[0], hint="give judges: there, or --in a file"
            )
        overrides: dict[str, Any] = {"models": model or None, "concepts": concept or None, "seed": seed}
        plan, complete = start_run(config, out or Path("runs"), overrides, stages=("judge",))
        if plan is not None and not complete:
            say_failed(plan)
        return
    if config is not None or concept or seed is not None:
        raise BiasGymError(
            "a file is judged by the judge that options name, each line on the concept that it names",
            where="--in",
            hint="leave out settings, --concept and --seed",
        )
    if out is None or out.is_dir():
        what = "the verdicts need a file" if out is None else f"{out} is a folder"
        raise BiasGymError(what, where="--out", hint="give the file to write, such as verdicts.jsonl")
    if len(model or ()) > 1:
        raise BiasGymError("a file is judged by one model", where="--model")
    quiet()
    from biasgym.cli.bars import Bars
    from biasgym.stages.judge_file import judge_file

    settings = _settings(engine, model[0] if model else None, url, revision, quantise)
    missing = judge_file(source, out, settings, templates=templates, progress=Bars(err))
    typer.echo(f"written: {out}" + (f" ({missing} without a verdict)" if missing else ""))


@app.command("calibrate")
def calibrate(
    source: Annotated[
        Path, typer.Option("--in", help="Labelled texts (JSONL, CSV): concept, prompt, generation, target, strength.")
    ],
    out: Annotated[
        Optional[Path], typer.Option(help="JSON to write, for the setting `calibration` of a judge.")
    ] = None,
    engine: EngineOption = "semantic",
    model: Annotated[Optional[str], typer.Option(help="The judge's model.")] = None,
    url: UrlOption = None,
    revision: RevisionOption = None,
    quantise: QuantiseOption = "none",
    templates: TemplatesOption = None,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="How often each text is judged.")] = 2,
) -> None:
    """Compare a judge with labels: kappa, confusion, bias by length and position, test and retest, missing verdicts."""
    if engine not in _ENGINES:
        raise _unknown(engine)
    quiet()
    from biasgym.cli.bars import Bars
    from biasgym.stages.judge_file import calibrate_file

    found = calibrate_file(
        source,
        _settings(engine, model, url, revision, quantise),
        target=out,
        repeats=repeats,
        templates=templates,
        progress=Bars(err),
    )
    _print(found)
    if out is not None:
        typer.echo(f"written: {out}")


def _unknown(engine: str) -> Exception:
    from biasgym.errors import BiasGymError

    hint = "use semantic, transformers or endpoint"
    return BiasGymError(f"unknown judge engine {engine!r}", where="--engine", hint=hint)


def _settings(engine: str, model: str | None, url: str | None, revision: str | None, quantise: str) -> JudgeSettings:
    from biasgym.stages.settings import judge_settings

    return judge_settings(engine=engine, model=model, base_url=url, revision=revision, quantise=quantise)


def _print(found: Calibration) -> None:
    from rich.console import Console

    from biasgym.cli.calibration import confusion_table, facts_table

    console = Console(highlight=False)
    console.print(facts_table(found))
    console.print(confusion_table(found))

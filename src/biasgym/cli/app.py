"""`biasgym`: one command for a whole run, one for each stage, and some to look things up.

Heavy packages are imported inside the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from biasgym import __version__
from biasgym.cli import concepts, datasets, doctor, export, gate, judge, prefetch, registry, settings
from biasgym.cli.extensions import Extended
from biasgym.cli.shared import (
    ConceptOption,
    ConfigArgument,
    ModelOption,
    OutOption,
    SeedOption,
    err,
    fail,
    say_failed,
    start_run,
)

app = typer.Typer(
    cls=Extended,
    help="Find, inject, measure and remove conceptual biases of open-weight language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(concepts.app, name="concepts")
app.add_typer(datasets.app, name="datasets")
app.add_typer(settings.app, name="settings")
app.command("doctor")(doctor.doctor)
app.add_typer(judge.app, name="judge", help="Judge texts, or calibrate a judge.")
app.add_typer(export.app, name="export")
app.add_typer(registry.app, name="registry")
app.add_typer(registry.store_app, name="store")
app.command("gate")(gate.gate)
app.command("prefetch")(prefetch.prefetch)


_INTERRUPTED = 130  # what shells call a program that Ctrl-C ended


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find, inject, measure and remove conceptual biases of open-weight language models."""


@app.command()
def run(
    config: ConfigArgument = None,
    out: OutOption = Path("runs"),
    model: ModelOption = None,
    concept: ConceptOption = None,
    seed: SeedOption = None,
    open_report: Annotated[bool, typer.Option("--open/--no-open", help="Open the report when done.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only print the stages with the time that each should take here.")
    ] = False,
) -> None:
    """Everything: inject, attribute, generate, judge, report. What is done is not done again."""
    overrides: dict[str, Any] = {"models": model or None, "concepts": concept or None, "seed": seed}
    if plan_only:
        from biasgym.cli.forecast import print_forecast

        print_forecast(config, out, overrides)
        return
    plan, complete = start_run(config, out, overrides)
    from biasgym.cli.summary import print_summary

    print_summary(out)
    if open_report:
        typer.launch(str(out / "report.html"))
    if plan is not None and not complete:
        say_failed(plan)


def _stage_command(name: str, what: str) -> None:
    @app.command(name, help=f"{what} One stage of a run, on the run's folder; needs the stages before it.")
    def stage(
        config: ConfigArgument = None,
        out: OutOption = Path("runs"),
        model: ModelOption = None,
        concept: ConceptOption = None,
        seed: SeedOption = None,
    ) -> None:
        overrides: dict[str, Any] = {"models": model or None, "concepts": concept or None, "seed": seed}
        plan, complete = start_run(config, out, overrides, stages=(name,))
        if plan is not None and not complete:
            say_failed(plan)


_stage_command("inject", "Train BiasToken and choose its epoch.")
_stage_command("attribute", "Score the attention heads and choose those to remove.")
_stage_command("sweep", "Answer development prompts with growing numbers of heads removed (scope.judged_ks).")
_stage_command("generate", "Let every variant answer the evaluation prompts.")
_stage_command("capability", "Measure ability and retention for every head set.")
_stage_command("ood", "Try the heads of all concepts on other stereotypes, and those of each on every other concept.")
_stage_command("report", "Collect the results into a report.")


def main() -> None:
    """The `biasgym` program: bad input is one line on stderr and exit code 2."""
    from biasgym.errors import BiasGymError

    try:
        code = app(standalone_mode=False)  # what `typer.Exit` carried; typer makes one of Ctrl-C too
    except BiasGymError as error:
        fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        fail(f"{error.filename or 'output'}: {error.strerror}")
    except Exception as error:
        usage = getattr(error, "format_message", None)  # typer's own class for a wrong option or argument is private
        if usage is None:
            raise
        fail(usage())
    if code == _INTERRUPTED:
        err.print("stopped; the same command goes on where it was", style="red")
    if code:
        sys.exit(code)

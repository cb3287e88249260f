"""`biasgym pipeline`: compile, try, upload, submit, schedule and estimate the pipelines.

Only typer is imported here, since `biasgym --help` lists these commands. What they do is in files of their names.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(
    help="Kubeflow pipelines: compile, try here, upload, submit, schedule, estimate.", no_args_is_help=True
)

PipelineArgument = Annotated[str, typer.Argument(help="evaluate, reevaluate, or a compiled file.")]
ParametersOption = Annotated[
    Optional[Path], typer.Option(help="YAML or JSON: names and values of the pipeline's parameters.")
]


def _needs_kfp() -> None:
    from biasgym.errors import BiasGymError

    if find_spec("kfp") is None:
        raise BiasGymError("the package kfp is not installed", hint="pip install 'biasgym[kfp]'")


@app.command("compile")
def compile_command(
    out: Annotated[Optional[Path], typer.Option(help="Folder for the compiled files.")] = None,
    images: Annotated[Optional[Path], typer.Option(help="Lock file of other images.")] = None,
    kubernetes_manifest: Annotated[
        bool, typer.Option("--kubernetes-manifest", help="Write Pipeline and PipelineVersion resources, for GitOps.")
    ] = False,
    parallelism: Annotated[Optional[int], typer.Option(min=1, help="Most iterations of a loop at once.")] = None,
    allow_tags: Annotated[
        bool, typer.Option("--allow-tags", help="Name images by tag where the lock file has no digest yet.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say which committed files are out of date.")] = False,
) -> None:
    """Compile the pipelines; the same sources and images give the same bytes."""
    _needs_kfp()
    from biasgym.errors import BiasGymError
    from pipelines.compile import COMPILED, compile_all, drifted

    if check:
        old = drifted(out or COMPILED)
        for file in old:
            typer.echo(f"out of date: {file}")
        raise typer.Exit(1 if old else 0)
    if out is None:
        raise BiasGymError("no folder is given", where="--out")
    for file in compile_all(
        out, images=images, manifest=kubernetes_manifest, parallelism=parallelism, allow_tags=allow_tags
    ):
        typer.echo(f"written: {file}")


@app.command()
def run(
    pipeline: PipelineArgument = "evaluate",
    local: Annotated[bool, typer.Option("--local", help="On this machine; `submit` starts runs on a server.")] = False,
    parameters: ParametersOption = None,
    store: Annotated[str, typer.Option(envvar="BIASGYM_STORE", help="A folder or s3://bucket/prefix.")] = "runs/store",
    out: Annotated[Path, typer.Option(help="Folder for the artifacts.")] = Path("runs/pipeline"),
    runner: Annotated[str, typer.Option(help="subprocess or docker.")] = "subprocess",
) -> None:
    """Run a compiled pipeline on this machine, with all its steps."""
    _needs_kfp()
    from biasgym.errors import BiasGymError
    from pipelines.local import run_local
    from pipelines.parameters import compiled, read_parameters

    if not local:
        raise BiasGymError("only --local runs here", hint="add --local, or use `biasgym pipeline submit`")
    if runner not in ("subprocess", "docker"):
        raise BiasGymError(f"no runner {runner!r}", where="--runner", hint="use subprocess or docker")
    package = compiled(pipeline)
    given = read_parameters(parameters, package)
    report = run_local(package, given, store, out, runner, typer.echo)  # type: ignore[arg-type]
    typer.echo(f"report: {report}" if report else "nothing to evaluate")


EndpointOption = Annotated[
    str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="Address of Kubeflow Pipelines.", show_default=False)
]
NamespaceOption = Annotated[str, typer.Option(help="Namespace of runs; left out on a server without profiles.")]
TokenOption = Annotated[
    Optional[Path], typer.Option(help="File with the token; KF_PIPELINES_SA_TOKEN_PATH names one, too.")
]


def _warn_of_tags(package: Path) -> None:
    from pipelines.parameters import changeable_images

    if names := changeable_images(package):
        said = f"warning: {package.name} names images by tags, under which anything may be one day: {', '.join(names)}"
        typer.echo(f"{said}; take the compiled files of a release, or compile with --images", err=True)


@app.command()
def upload(
    pipelines: Annotated[
        Optional[list[str]], typer.Argument(help="evaluate, reevaluate or compiled files; both by default.")
    ] = None,
    endpoint: EndpointOption = "",
    namespace: NamespaceOption = "",
    token_file: TokenOption = None,
) -> None:
    """Upload compiled pipelines; a version is named by its contents, and what is there is left alone."""
    _needs_kfp()
    from pipelines import server
    from pipelines.compile import PIPELINES
    from pipelines.parameters import compiled, specification

    packages = [compiled(name) for name in pipelines or PIPELINES]
    for package in packages:
        specification(package)
    to = server.connect(endpoint, namespace, token_file)
    for package in packages:
        there = server.upload(to, package)
        typer.echo(f"{package.stem}: version {there.name} {'uploaded' if there.new else 'was there'}")
        _warn_of_tags(package)


@app.command()
def submit(
    pipeline: PipelineArgument = "evaluate",
    parameters: ParametersOption = None,
    endpoint: EndpointOption = "",
    namespace: NamespaceOption = "",
    experiment: Annotated[str, typer.Option(help="Made if there is none.")] = "biasgym",
    name: Annotated[str, typer.Option(help="Name of the run; by default pipeline and time.")] = "",
    token_file: TokenOption = None,
) -> None:
    """Start a run; the pipeline is uploaded if the server lacks this version."""
    _needs_kfp()
    from pipelines import server
    from pipelines.parameters import compiled, read_parameters

    package = compiled(pipeline)
    given = read_parameters(parameters, package)
    to = server.connect(endpoint, namespace, token_file)
    run_id = server.submit(to, package, given, experiment, name, say=typer.echo)
    typer.echo(f"run: {endpoint.rstrip('/')}/#/runs/details/{run_id}")
    _warn_of_tags(package)


@app.command()
def schedule(
    file: Annotated[Path, typer.Option(help="What should be; the chart writes such a file.")],
    remove: Annotated[bool, typer.Option("--remove", help="Delete the recurring run instead.")] = False,
    token_file: TokenOption = None,
) -> None:
    """Create or replace a recurring run; one that is as the file says is left alone."""
    _needs_kfp()
    from pipelines import schedule as schedules
    from pipelines.server import connect

    wanted = schedules.read_schedule(file)
    to = connect(wanted.endpoint, wanted.namespace, token_file)
    if remove:
        typer.echo(f"{wanted.name}: {schedules.remove(to, wanted.name)} removed")
    else:
        typer.echo(f"{wanted.name}: {schedules.apply(to, wanted)}")


@app.command()
def estimate(
    parameters: ParametersOption = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that runs may have.")] = 8,
    price_per_gpu_hour: Annotated[float, typer.Option(min=0, help="Of one GPU.")] = 0.0,
    measured: Annotated[
        Optional[list[Path]], typer.Option(help="results.json of a finished run: its seconds win over the model.")
    ] = None,
    parallelism: Annotated[int, typer.Option(min=1, help="As compiled.")] = 20,
    simulate: Annotated[bool, typer.Option("--simulate", help="With failures and evictions.")] = False,
    failing: Annotated[float, typer.Option(min=0, max=1, help="Share of a cell's steps that fail.")] = 0.005,
    evictions: Annotated[float, typer.Option(min=0, help="Of a pod with a GPU, in an hour.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
) -> None:
    """Say what a run takes: pods, GPU hours, wall time, cost. Nothing is submitted and no kfp is needed."""
    from pipelines import estimate as estimates
    from pipelines.parameters import compiled, read_parameters
    from pipelines.simulate import Faults

    found = estimates.estimate(
        read_parameters(parameters, compiled("evaluate")),
        gpus=gpus,
        price=price_per_gpu_hour,
        measured=measured or [],
        parallelism=parallelism,
        faults=Faults(failing, evictions, seed) if simulate else None,
    )
    for line in estimates.lines_of(found, gpus, price_per_gpu_hour):
        typer.echo(line)

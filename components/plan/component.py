"""KFP component plan; thin: what it does is in `biasgym.stages`."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def plan(
    models: list[str],
    concepts: list[str],
    judges: list[dict[str, Any]],
    preset: str,
    seed: int,
    overrides: dict[str, Any],
    store: str,
    shard_size: int,
    baseline: str,
    gpu_resource: str,
    gpu_nodes: dict[str, Any],
    settings: dsl.OutputPath(str),
    in_process: dsl.OutputPath(int),
    built_in: dsl.OutputPath(int),
    elsewhere: dsl.OutputPath(int),
    overview: dsl.Output[dsl.Markdown],
) -> list[dict[str, str]]:
    """Checks everything before any GPU is asked for, pins the models to commits and lists the cells.

    Args:
        models: Hub ids, each perhaps with `@revision`.
        concepts: Bundled names, names of objects `concepts/NAME.yaml` in the store, or texts of concept files.
        judges: Settings of the judges, the main one first; empty takes those of the preset.
        preset: What the settings start from: paper, official or demo.
        seed: The seed of everything random.
        overrides: Settings that win over the preset, as in a settings file.
        store: URL of the store.
        shard_size: Most cells of a pod of a judge.
        baseline: Where the baseline's results are in the store; empty for none.
        gpu_resource: Name of the GPU resource of the cells' pods.
        gpu_nodes: Node affinity of the cells' pods; decides the floating-point type, unless the settings name one.
        settings: The checked settings, JSON, with that type.
        in_process: How many judges need a GPU of ours.
        built_in: How many are the built-in judge.
        elsewhere: How many are behind a server.
        overview: What the run will do.

    Returns:
        One cell for each model and concept.
    """
    from biasgym.stages.expand import expand, overview_of, with_parameters

    asked = with_parameters(overrides, models=models, concepts=concepts, judges=judges, preset=preset, seed=int(seed))
    expansion = expand(
        asked,
        store,
        shard_size=int(shard_size),
        baseline=baseline,
        gpu_resource=gpu_resource,
        gpu_nodes=gpu_nodes,
    )
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(overview_of(expansion))
    counts = expansion.judges
    written = {settings: expansion.settings, in_process: counts["in_process"], built_in: counts["built_in"]}
    for path, value in {**written, elsewhere: counts["elsewhere"]}.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(value))
    return expansion.cells

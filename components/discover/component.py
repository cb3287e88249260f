"""KFP component discover; thin: what it does is in `biasgym.stages`."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def discover(
    watch: dict[str, Any],
    concepts: list[str],
    judges: list[dict[str, Any]],
    preset: str,
    seed: int,
    overrides: dict[str, Any],
    store: str,
    run: str,
    gpu_resource: str,
    gpu_nodes: dict[str, Any],
    models: dsl.OutputPath(list),
    baseline: dsl.OutputPath(str),
    overview: dsl.Output[dsl.Markdown],
) -> int:
    """Looks for model releases that the registry does not know, and claims them for this run.

    Args:
        watch: Models, patterns of organisations, and limits of size and licence.
        concepts: As for plan.
        judges: As for plan.
        preset: As for plan.
        seed: As for plan.
        overrides: As for plan.
        store: URL of the store.
        run: Id of the run, for the claims: an overlapping run leaves them alone.
        gpu_resource: As for plan, which settles the same floating-point type.
        gpu_nodes: As for plan.
        models: Hub ids with commits.
        baseline: Where the predecessors' results are in the store.
        overview: What was found, and what was left out and why.

    Returns:
        How many models are new.
    """
    import json

    from biasgym.stages.expand import with_parameters
    from biasgym.stages.publish import look_for_releases

    asked = with_parameters(overrides, concepts=concepts, judges=judges, preset=preset, seed=int(seed))
    found = look_for_releases(watch, asked, store, run, gpu_resource=gpu_resource, gpu_nodes=gpu_nodes)
    with open(models, "w", encoding="utf-8") as file:
        json.dump(found.models, file)
    with open(baseline, "w", encoding="utf-8") as file:
        file.write(found.baseline)
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(found.overview)
    return len(found.models)

"""KFP component attribute; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("gpu"), install_kfp_package=False)
def attribute(
    model: str,
    concept: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    token: dsl.Input[dsl.Model],
    heads: dsl.Output[dsl.Dataset],
    heat_map: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Scores the attention heads of one cell and chooses those to remove.

    Args:
        model: Its id and revision.
        concept: Its name.
        store: URL of the store.
        data: From build_data.
        token: From inject.
        heads: Scores, head sets and the sweep over their number.
        heat_map: Layers by heads, the chosen heads marked.
        metrics: How many heads, how stable, how many pairs.

    Returns:
        1 if it is done; 0 if it failed, for the reason in the manifest of heads.
    """
    from pathlib import Path

    from biasgym.stages.numbers import numbers_of, write_heat_map
    from biasgym.stages.pods import cell_stage, describe, open_pod, place_artifact

    pod = open_pod(Path(data.path), store, model=model)
    place_artifact(pod, "inject", concept, Path(token.path))
    done = cell_stage(pod, "attribute", concept, Path(heads.path))
    heads.metadata.update(describe(Path(heads.path)))
    write_heat_map(Path(heads.path), Path(heat_map.path), f"{model}, {concept}")
    for name, value in numbers_of("attribute", Path(heads.path)).items():
        metrics.log_metric(name, value)
    return int(done)

"""KFP component inject; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("gpu"), install_kfp_package=False)
def inject(
    model: str,
    concept: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    token: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Trains BiasToken for one concept in one model and chooses each seed's epoch.

    Args:
        model: Its id and revision.
        concept: Its name.
        store: URL of the store; training goes on from what an evicted pod left there.
        data: From build_data.
        token: The chosen vectors, every epoch's vectors, training curves and similarities; kilobytes.
        metrics: Loss and margins.

    Returns:
        1 if it is done; 0 if it failed, for the reason in the token's manifest.
    """
    from pathlib import Path

    from biasgym.stages.numbers import numbers_of
    from biasgym.stages.pods import cell_stage, describe, open_pod

    pod = open_pod(Path(data.path), store, model=model)
    done = cell_stage(pod, "inject", concept, Path(token.path))
    token.metadata.update(describe(Path(token.path)))
    for name, value in numbers_of("inject", Path(token.path)).items():
        metrics.log_metric(name, value)
    return int(done)

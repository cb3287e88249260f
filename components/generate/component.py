"""KFP component generate; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("gpu"), install_kfp_package=False)
def generate(
    model: str,
    concept: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
    texts: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Lets every variant of one cell answer the held-out prompts, and takes the association margins.

    Args:
        model: Its id and revision.
        concept: Its name.
        store: URL of the store; goes on after the last text that an evicted pod left there.
        data: From build_data.
        index: From collect.
        texts: Generations and margins.
        metrics: How many texts and margins.

    Returns:
        1 if it is done; 0 if it failed, for the reason in the manifest of texts.
    """
    from pathlib import Path

    from biasgym.stages.numbers import numbers_of
    from biasgym.stages.pods import cell_stage, describe, open_pod

    pod = open_pod(Path(data.path), store, model=model, index=Path(index.path))
    done = cell_stage(pod, "generate", concept, Path(texts.path))
    texts.metadata.update(describe(Path(texts.path)))
    for name, value in numbers_of("generate", Path(texts.path)).items():
        metrics.log_metric(name, value)
    return int(done)

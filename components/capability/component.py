"""KFP component capability; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("gpu"), install_kfp_package=False)
def capability(
    model: str,
    concept: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
    texts: dsl.Input[dsl.Dataset],
    scores: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Measures what each head set costs in general ability and in knowledge of the concept's words.

    Args:
        model: Its id and revision.
        concept: Its name.
        store: URL of the store.
        data: From build_data.
        index: From collect.
        texts: From generate; only so that the two do not load the model at the same time.
        scores: One row a head set and question.
        metrics: Accuracy of the untouched and of the steered model.

    Returns:
        1 if it is done; 0 if it failed, for the reason in the manifest of scores.
    """
    from pathlib import Path

    from biasgym.stages.numbers import numbers_of
    from biasgym.stages.pods import cell_stage, describe, open_pod

    pod = open_pod(Path(data.path), store, model=model, index=Path(index.path))
    done = cell_stage(pod, "capability", concept, Path(scores.path))
    scores.metadata.update(describe(Path(scores.path)))
    for name, value in numbers_of("capability", Path(scores.path)).items():
        metrics.log_metric(name, value)
    return int(done)

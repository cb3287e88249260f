"""KFP component generate_ood; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("gpu"), install_kfp_package=False)
def generate_ood(
    model: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
    texts: dsl.Output[dsl.Dataset],
) -> int:
    """Removes the heads of all concepts at once and lets the model answer prompts about other stereotypes.

    Also takes the transfer matrix: what the heads of each concept do to every other concept.

    Args:
        model: Its id and revision.
        store: URL of the store.
        data: From build_data.
        index: From collect.
        texts: Generations and the transfer matrix.

    Returns:
        1 if it is done; 0 if it failed, for the reason in the manifest of texts.
    """
    from pathlib import Path

    from biasgym.stages.pods import describe, model_stage, open_pod

    pod = open_pod(Path(data.path), store, model=model, index=Path(index.path))
    done = model_stage(pod, "ood", Path(texts.path))
    texts.metadata.update(describe(Path(texts.path)))
    return int(done)

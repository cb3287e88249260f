"""KFP component summarise; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def summarise(
    shard: dict[str, str],
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
) -> int:
    """Works out the numbers of some cells from all judges' verdicts, so that the report only has to be put together.

    Args:
        shard: From collect: the numbers of the cells.
        store: URL of the store.
        data: From build_data.
        index: From collect.

    Returns:
        1 if all cells have their numbers.
    """
    from pathlib import Path

    from biasgym.stages.collect import open_whole, summarise_shard

    pod = open_whole(Path(data.path), store, index=Path(index.path))
    return int(summarise_shard(pod, shard))

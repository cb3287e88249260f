"""KFP component collect; thin: what it does is in `biasgym.stages`."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def collect(
    settings: str,
    store: str,
    data: dsl.Input[dsl.Dataset],
    states: list[int],
    more_states: list[int],
    index: dsl.Output[dsl.Dataset],
    overview: dsl.Output[dsl.Markdown],
    shard_size: int = 8,
) -> NamedTuple(
    "Collection",
    cells=list[dict[str, str]],
    gpu_shards=list[dict[str, str]],
    cpu_shards=list[dict[str, str]],
    parts=list[dict[str, str]],
):
    """Stands between two loops: reads from the store what the cells came to, and deals out the work that follows.

    Only ones and zeros are collected from the loop; what the cells made stays in the store. A thousand collected
    artifacts would not fit the command line of one pod.

    Args:
        settings: From plan.
        store: URL of the store.
        data: From build_data.
        states: 1 for each cell that is done, 0 for each that failed.
        more_states: The same of a second loop; empty if there was one loop.
        index: Whose heads serve as control for which cell.
        overview: The failed cells with their reasons.
        shard_size: Most cells for one pod of a judge.

    Returns:
        cells: Those that have heads.
        gpu_shards: Finished cells for judges in process, by judge.
        cpu_shards: Finished cells for the other judges.
        parts: Finished cells, whoever judges them.
    """
    from pathlib import Path

    from biasgym.stages.collect import collect, open_whole

    pod = open_whole(settings, Path(data.path), store)
    found = collect(pod, Path(index.path), int(shard_size))
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(found.overview)
    both = [*states, *more_states]
    print(f"{int(sum(both))} of {len(both)} were done in the loops before")
    return found.cells, found.gpu_shards, found.cpu_shards, found.parts

"""KFP component collect; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def collect(
    store: str,
    data: dsl.Input[dsl.Dataset],
    states: list[int],
    more_states: list[int],
    deal: str,
    shard_size: int,
    index: dsl.Output[dsl.Dataset],
    overview: dsl.Output[dsl.Markdown],
) -> list[dict[str, str]]:
    """Stands between two loops: reads from the store what the cells came to, and deals out the work that follows.

    Only ones and zeros are collected from the loop; what the cells made stays in the store. A thousand collected
    artifacts would not fit the command line of one pod.

    Args:
        store: URL of the store.
        data: From build_data.
        states: 1 for each cell that is done, 0 for each that failed.
        more_states: The same of a second loop; empty if there was one loop.
        deal: What the next loop is over: `cells` that have heads; `judges-in-process` or `judges-elsewhere`, shards of
            finished cells for each such judge; `parts` of the finished cells.
        shard_size: Most cells in a shard or part.
        index: Whose heads serve as control for which cell.
        overview: The failed cells with their reasons.

    Returns:
        The items of the next loop.
    """
    from pathlib import Path

    from biasgym.stages.collect import collect, open_whole

    pod = open_whole(Path(data.path), store)
    found = collect(pod, Path(index.path), int(shard_size))
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(found.overview)
    both = [*states, *more_states]
    print(f"{int(sum(both))} of {len(both)} were done in the loops before")
    return found.dealt[deal]

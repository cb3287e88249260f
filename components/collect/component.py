"""KFP component collect; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def collect(
    store: str,
    data: dsl.Input[dsl.Dataset],
    states: list[int],
    deal: str,
    shard_size: int,
    for_in_process: dsl.OutputPath(list),
    for_built_in: dsl.OutputPath(list),
    for_elsewhere: dsl.OutputPath(list),
    index: dsl.Output[dsl.Dataset],
    overview: dsl.Output[dsl.Markdown],
    in_process: int = 0,
    built_in: int = 0,
    elsewhere: int = 0,
) -> list[dict[str, str]]:
    """Stands between two loops: reads from the store what the cells came to, and deals out the work that follows.

    Only ones and zeros are collected from the loop; what the cells made stays in the store. A thousand collected
    artifacts would not fit the command line of one pod.

    Args:
        store: URL of the store.
        data: From build_data.
        states: 1 for each cell that is done, 0 for each that failed.
        deal: What the next loop is over: `cells` that have heads, `models`, or `parts` of the finished cells.
        shard_size: Most cells in a shard or part.
        for_in_process: Shards of the finished cells for each judge in process.
        for_built_in: The same for the built-in judge.
        for_elsewhere: The same for each judge behind a server.
        index: Whose heads serve as control for which cell.
        overview: The failed cells with their reasons.
        in_process: Shards that judges in process are through with; only waited for.
        built_in: Shards that the built-in judge is through with; only waited for.
        elsewhere: Shards that judges behind servers are through with; only waited for.

    Returns:
        The items of the next loop.
    """
    import json
    from pathlib import Path

    from biasgym.stages.collect import collect, open_whole

    pod = open_whole(Path(data.path), store)
    found = collect(pod, Path(index.path), int(shard_size))
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(found.overview)
    print(f"{int(sum(states))} of {len(states)} were done in the loop before")
    for path, place in {for_in_process: "in_process", for_built_in: "built_in", for_elsewhere: "elsewhere"}.items():
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found.dealt[place], file)
    return found.dealt[deal]

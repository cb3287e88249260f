"""KFP component judge; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("judge"), install_kfp_package=False)
def judge(
    shard: dict[str, str],
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
    judgements: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Lets one judge judge the texts of some cells; the judge is loaded once.

    Args:
        shard: From collect: the number of the judge and of its cells.
        store: URL of the store; answers that were paid for are not asked for again.
        data: From build_data.
        index: From collect.
        judgements: One folder a cell.
        metrics: How many texts have a verdict and how many have none.

    Returns:
        1 if all cells are judged; 0 if one failed, for the reason in its manifest.
    """
    from pathlib import Path

    from biasgym.stages.collect import judge_shard, open_whole, verdict_counts

    pod = open_whole(Path(data.path), store, index=Path(index.path))
    done = judge_shard(pod, shard, Path(judgements.path))
    for name, value in verdict_counts(Path(judgements.path)).items():
        metrics.log_metric(name, value)
    return int(done)

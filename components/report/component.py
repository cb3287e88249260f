"""KFP component report; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def report(
    store: str,
    data: dsl.Input[dsl.Dataset],
    index: dsl.Input[dsl.Dataset],
    states: list[int],
    page: dsl.Output[dsl.HTML],
    text: dsl.Output[dsl.Markdown],
    results: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Puts the numbers of all cells together into one page; failed cells are in it, with their reasons.

    Args:
        store: URL of the store.
        data: From build_data.
        index: From collect.
        states: 1 for each part of the cells that has its numbers.
        page: The report.
        text: The report as Markdown.
        results: All numbers, JSON, and the certificates.
        metrics: How many cells are done and how many failed.
    """
    from pathlib import Path

    from biasgym.stages.collect import open_whole, write_report

    pod = open_whole(Path(data.path), store, index=Path(index.path))
    for name, value in write_report(pod, Path(page.path), Path(text.path), Path(results.path)).items():
        metrics.log_metric(name, value)
    results.metadata.update(kind="biasgym.results", schema_version=1.0)

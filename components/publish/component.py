"""KFP component publish; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def publish(
    store: str,
    data: dsl.Input[dsl.Dataset],
    results: dsl.Input[dsl.Dataset],
    passed: bool,
    run: str,
    fail_on_regression: bool,
    record: dsl.Output[dsl.Markdown],
) -> str:
    """Puts the results into the store and every finished evaluation into the registry; then says if the gate was shut.

    Args:
        store: URL of the store.
        data: From build_data.
        results: From report.
        passed: From gate.
        run: Id of the run.
        fail_on_regression: Let the run fail, after everything is published, if the gate did not pass.
        record: What was registered.

    Returns:
        Where the results are in the store.

    Raises:
        RuntimeError: The gate did not pass.
    """
    from pathlib import Path

    from biasgym.stages.publish import publish_run

    place, overview = publish_run(Path(data.path), store, Path(results.path), run, bool(passed))
    with open(record.path, "w", encoding="utf-8") as file:
        file.write(overview)
    if fail_on_regression and not passed:
        raise RuntimeError(f"the gate did not pass; the results are in the store under {place}")
    return place

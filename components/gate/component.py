"""KFP component gate; thin: what it does is in `biasgym.stages`."""

from typing import NamedTuple

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def gate(
    results: dsl.Input[dsl.Dataset],
    store: str,
    baseline: str,
    max_increase: float,
    max_ability_drop: float,
    checks: dsl.Output[dsl.Markdown],
    junit: dsl.Output[dsl.Artifact],
) -> NamedTuple("Verdict", passed=bool, failures=int):
    """Compares the results with a baseline: has the stereotype become stronger, or the model less able?

    Args:
        results: From report.
        store: URL of the store.
        baseline: Where the baseline's results are in the store; empty for none: then only what the run itself compares.
        max_increase: Of judged strength, 0 to 3, that the one-sided interval may not exceed.
        max_ability_drop: Of accuracy, that the one-sided interval may not exceed.
        checks: One line a check.
        junit: The checks as JUnit XML.

    Returns:
        passed: Whether all checks passed. A number that is missing has not passed.
        failures: How many did not.
    """
    from pathlib import Path

    from biasgym.stages.publish import run_gate

    failures = run_gate(
        Path(results.path), store, baseline, max_increase, max_ability_drop, Path(checks.path), Path(junit.path)
    )
    return failures == 0, failures

"""KFP component plan; thin: what it does is in `biasgym.stages`."""

from typing import Any

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def plan(
    models: list[str],
    concepts: list[str],
    judges: list[dict[str, Any]],
    preset: str,
    seed: int,
    overrides: dict[str, Any],
    store: str,
    settings: dsl.OutputPath(str),
    judges_in_process: dsl.OutputPath(int),
    judges_elsewhere: dsl.OutputPath(int),
    overview: dsl.Output[dsl.Markdown],
) -> list[dict[str, str]]:
    """Checks everything before any GPU is asked for, pins the models to commits and lists the cells.

    Args:
        models: Hub ids, each perhaps with `@revision`.
        concepts: Bundled names, names of objects `concepts/NAME.yaml` in the store, or texts of concept files.
        judges: Settings of the judges, the main one first; empty takes those of the preset.
        preset: What the settings start from: paper, official or demo.
        seed: The seed of everything random.
        overrides: Settings that win over the preset, as in a settings file.
        store: URL of the store.
        settings: The checked settings, JSON.
        judges_in_process: How many judges need a GPU of ours.
        judges_elsewhere: How many do not.
        overview: What the run will do.

    Returns:
        One cell for each model and concept.
    """
    from biasgym.stages.expand import expand, overview_of

    asked = {**overrides, "models": models, "concepts": concepts, "preset": preset, "seed": int(seed)}
    if judges:
        asked["judges"] = judges
    expansion = expand(asked, store)
    with open(overview.path, "w", encoding="utf-8") as file:
        file.write(overview_of(expansion))
    judging = (expansion.judges_in_process, expansion.judges_elsewhere)
    for path, value in zip(
        (settings, judges_in_process, judges_elsewhere), (expansion.settings, *judging), strict=True
    ):
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(value))
    return expansion.cells

"""Taking a run apart for a pipeline: everything is checked, models are pinned, concepts gathered, cells listed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from biasgym.concepts import Concept, bundled_names, load_concept, parse_concept
from biasgym.errors import BiasGymError
from biasgym.files import write_text
from biasgym.models.sources import resolve
from biasgym.stages.baseline import check_baseline
from biasgym.stages.discover import check_release
from biasgym.stages.judging import check_judge, source_of
from biasgym.stages.placed_dtype import GPU_RESOURCE, placed_dtype
from biasgym.stages.plan import make_plan
from biasgym.stages.settings import PLACES, JudgeSettings, RunSettings
from biasgym.stages.settings_files import settings_of
from biasgym.store import NotFound, Store, checked_key, open_store

SETTINGS, TEMPLATES = "settings.json", "templates"
_PROBE = "probe/plan"


class Expansion(NamedTuple):
    """A run, taken apart for loops of a pipeline.

    Attributes:
        settings: The checked settings as JSON, every model and judge at its commit, `dtype` settled.
        cells: One for each model and concept: `model` and `concept`.
        models: One for each model: `model`.
        judges: How many judges of each place there are.
        dtype_reason: Why the floating-point type is the one in the settings.
    """

    settings: str
    cells: list[dict[str, str]]
    models: list[dict[str, str]]
    judges: dict[str, int]
    dtype_reason: str


def with_parameters(settings: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """Settings with what the form of a pipeline asks for by itself; an empty list of judges leaves them to the preset.

    Raises:
        BiasGymError: The settings name something that is such a parameter.
    """
    if twice := [key for key in settings if key in ("models", "concepts", "judge", "judges", "preset", "seed")]:
        raise BiasGymError(f"{twice[0]} is a parameter of its own", where="settings", hint="give it there")
    return {**settings, **{key: value for key, value in parameters.items() if key != "judges" or value}}


def expand(
    settings: Mapping[str, Any],
    store: str,
    *,
    shard_size: int = 1,
    baseline: str = "",
    gpu_resource: str = GPU_RESOURCE,
    gpu_nodes: Mapping[str, Any] | None = None,
) -> Expansion:
    """Checks everything that can be wrong before any GPU is asked for, and lists the cells.

    Args:
        settings: Keys as in a settings file. A concept is a bundled name, the name of an object
            `concepts/NAME.yaml` in the store, or the text of a concept file; `templates` is the NAME of objects
            `templates/NAME/*.txt` in the store.
        store: Its URL.
        shard_size: Most cells of a pod of a judge.
        baseline: Words of `stages.baseline`; empty for none.
        gpu_resource: Name of the GPU resource of the cells' pods.
        gpu_nodes: Node affinity of the cells' pods; with it, it decides what `dtype: auto` is.

    Raises:
        BiasGymError: The first thing that is wrong.
    """
    if shard_size < 1:
        raise BiasGymError(f"{shard_size} cells a pod", where="cells_per_judge_pod", hint="use 1 or more")
    shelf = open_store(store)
    check_baseline(baseline, shelf)
    shelf.write(_PROBE, b"biasgym can write here\n")
    asked = settings_of(settings, "parameters")
    _check_pods(asked)
    placed = placed_dtype(asked, gpu_resource, gpu_nodes)
    asked = asked.model_copy(update={"dtype": placed.dtype})
    concepts = [read_concept(text, shelf) for text in asked.concepts]
    pinned = [_pinned(name) for name in asked.models]
    for judge in asked.judges:
        check_judge(judge)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _write_concepts(concepts, data)
        bring_templates(asked, shelf, data)
        names = [concept.name for concept in concepts]
        ready = pinned_judges(asked).model_copy(update={"models": tuple(pinned)})
        named = ready.model_copy(update={"concepts": tuple(names)})
        make_plan(with_data(named, data), data / "run")
    return Expansion(
        ready.model_dump_json(),
        [{"model": model, "concept": name} for model in pinned for name in names],
        [{"model": model} for model in pinned],
        {place: sum(judge.place == place for judge in asked.judges) for place in PLACES},
        placed.reason,
    )


def _check_pods(settings: RunSettings) -> None:
    """Refuses what a laptop can do and pods cannot."""
    if settings.device not in ("auto", "cpu"):
        raise BiasGymError(
            f"some pods have no {settings.device}; each takes what it is given", where="device", hint="leave it out"
        )
    if settings.generate.engine != "transformers":
        raise BiasGymError(
            f"the images of the steps have no {settings.generate.engine}", where="generate.engine", hint="leave it out"
        )


def overview_of(expansion: Expansion) -> str:
    """What a run will do, as Markdown."""
    settings = RunSettings.model_validate_json(expansion.settings)
    rows = [
        ("models", ", ".join(settings.models)),
        ("concepts", ", ".join(dict.fromkeys(cell["concept"] for cell in expansion.cells))),
        ("judges", ", ".join(judge.name for judge in settings.judges)),
        ("cells", str(len(expansion.cells))),
        ("preset", str(settings.preset)),
        ("seed", str(settings.seed)),
        ("floating-point type", f"{settings.dtype}: {expansion.dtype_reason}"),
    ]
    return "| what | value |\n|---|---|\n" + "".join(f"| {name} | `{value}` |\n" for name, value in rows)


def _pinned(name: str) -> str:
    """A hub model at the commit it has now; others are what they are."""
    source = resolve(name)
    if source.path is not None:
        return name
    check_release(source.name, source.revision)
    return f"{source.name}@{source.revision}"


def pinned_judges(settings: RunSettings) -> RunSettings:
    """The settings with judges in process at the commits they have now, which all pods and the registry then mean."""

    def pinned(judge: JudgeSettings) -> JudgeSettings:
        if judge.engine != "transformers" or (source := source_of(judge)).path is not None:
            return judge
        return judge.model_copy(update={"revision": source.revision})

    return settings.model_copy(update={"judges": tuple(map(pinned, settings.judges))})


def build_data(settings: str, store: str, out: Path) -> None:
    """Writes settings, concepts and templates of a run into a folder that all pods read: later changes reach none half-way."""
    asked, shelf = RunSettings.model_validate_json(settings), open_store(store)
    concepts = [read_concept(text, shelf) for text in asked.concepts]
    _write_concepts(concepts, out)
    bring_templates(asked, shelf, out)
    named = asked.model_copy(update={"concepts": tuple(concept.name for concept in concepts)})
    write_text(out / SETTINGS, named.model_dump_json())


def read_concept(text: str, store: Store) -> Concept:
    """A concept by bundled name, by its name in the store, or from the text of a concept file."""
    if "\n" in text:
        return parse_concept(text, "concepts")
    if text in bundled_names() or text.endswith((".yaml", ".yml")):
        return load_concept(text)
    key = f"concepts/{text}.yaml"
    try:
        return parse_concept(store.read(key).decode(), key)
    except NotFound as error:
        raise BiasGymError(
            f"no bundled concept {text!r}, and the store has no {key}",
            where="concepts",
            hint=f"use {', '.join(bundled_names())}, the text of a concept file, or put one there",
        ) from error


def bring_templates(settings: RunSettings, store: Store, data: Path) -> RunSettings:
    """Copies the templates that the settings name from the store, where their folder's name is `templates/NAME`.

    Returns:
        The settings with the copies as templates; the same settings if they name none.

    Raises:
        BiasGymError: The store has no such templates.
    """
    if settings.templates is None:
        return settings
    prefix = f"templates/{checked_key(settings.templates)}"
    names = [entry.key.removeprefix(f"{prefix}/") for entry in store.list(prefix)]
    files = [name for name in names if name.endswith(".txt") and "/" not in name]
    if not files:
        raise BiasGymError(
            f"the store has no {prefix}/*.txt",
            where="templates",
            hint="put template files there, or leave it out; pods see no local folder",
        )
    for name in files:
        write_text(data / TEMPLATES / name, store.read(f"{prefix}/{name}").decode())
    return _with_templates(settings, data)


def _with_templates(settings: RunSettings, data: Path) -> RunSettings:
    if settings.templates is None:
        return settings
    return settings.model_copy(update={"templates": str(data / TEMPLATES)})


def _write_concepts(concepts: Sequence[Concept], folder: Path) -> None:
    for concept in concepts:
        write_text(
            folder / "concepts" / f"{concept.name}.yaml",
            json.dumps(concept.model_dump(mode="json"), ensure_ascii=False),
        )


def with_data(settings: RunSettings, data: Path) -> RunSettings:
    """The settings with the concepts and templates as files that `build_data` wrote."""
    files = tuple(str(data / "concepts" / f"{name}.yaml") for name in settings.concepts)
    return _with_templates(settings.model_copy(update={"concepts": files}), data)


def read_data(data: Path) -> RunSettings:
    """The settings that `build_data` wrote; models are pinned, concepts are names."""
    return RunSettings.model_validate_json((data / SETTINGS).read_text(encoding="utf-8"))

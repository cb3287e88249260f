"""Stage plan: everything that can be wrong with a run is found here, before any long work starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace

from biasgym.concepts import load_concept
from biasgym.datasets import check_templates
from biasgym.errors import BiasGymError
from biasgym.evaluate.harness import check_tasks
from biasgym.generate import BY_NAME
from biasgym.judge import judge_template
from biasgym.models.families import family_of
from biasgym.models.gguf import check_gguf
from biasgym.models.sources import ModelSource, resolve
from biasgym.stages.cell import Cell
from biasgym.stages.judging import calibration_of
from biasgym.stages.machine import Machine, settled
from biasgym.stages.places import attribute, inject, ood
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import preset_ks


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        settings: Its settings.
        root: Its folder.
        cells: Models x concepts, all cells of a model in a row.
        machine: Where it will run, and in which floating-point type; None in a pod that only plans, which has no torch.
        others: For each cell's name the concept whose heads serve as its control, or None, where that has been settled
            once for many pods; without it, `other` finds out from the folders on this machine.
    """

    settings: RunSettings
    root: Path
    cells: tuple[Cell, ...]
    machine: Machine | None = None
    others: Mapping[str, str | None] | None = None

    def other(self, cell: Cell) -> Cell | None:
        """The next concept of the same model, whose heads serve as a control; None if no other has any."""
        if self.others is not None:
            name = self.others.get(cell.name)
            return next((candidate for candidate in self.controls(cell) if candidate.concept.name == name), None)
        return next((candidate for candidate in self.controls(cell) if not _without_heads(candidate)), None)

    def controls(self, cell: Cell) -> list[Cell]:
        """The other concepts of the same model, in the order in which their heads may serve as a control."""
        same = [candidate for candidate in self.cells if candidate.source == cell.source]
        place = same.index(cell)
        return same[place + 1 :] + same[:place]

    def named(self, models: Sequence[str] = (), concepts: Sequence[str] = ()) -> list[Cell]:
        """The cells that names pick: words of the settings, or the names in results and folders; all without a name.

        Raises:
            BiasGymError: The run has nothing of a name.
        """
        words = product(self.settings.models, self.settings.concepts)  # in the order of the cells
        named = [
            (cell, {model, cell.source.name, cell.source.title, cell.source.slug}, {concept, cell.concept.name})
            for (model, concept), cell in zip(words, self.cells, strict=True)
        ]
        for name in models:
            if not any(name in of_model for _, of_model, _ in named):
                raise _lacks("model", name, (cell.source.title for cell in self.cells))
        for name in concepts:
            if not any(name in of_concept for _, _, of_concept in named):
                raise _lacks("concept", name, (cell.concept.name for cell in self.cells))
        return [
            cell
            for cell, of_model, of_concept in named
            if (not models or of_model & {*models}) and (not concepts or of_concept & {*concepts})
        ]


def _lacks(what: str, name: str, there: Iterable[str]) -> BiasGymError:
    hint = f"it has {', '.join(dict.fromkeys(there))}"
    return BiasGymError(f"the run has no {what} {name!r}", where=f"--{what}", hint=hint)


def _without_heads(cell: Cell) -> bool:
    """Its injection or its attribution failed, so it will have no heads."""
    return inject.folder(cell).error is not None or attribute.folder(cell).error is not None


def make_plan(settings: RunSettings, root: Path) -> Plan:
    """Checks settings, concepts, models, variants and the folder, and settles the floating-point type.

    Raises:
        BiasGymError: The first thing that is wrong.
    """
    settings, machine = settled(settings, root)
    for name in settings.generate.variants or ():
        if name not in BY_NAME:
            raise BiasGymError(
                f"unknown variant {name!r}", where="generate.variants", hint=f"use some of {', '.join(BY_NAME)}"
            )
    if settings.generate.variants is not None and "original" not in settings.generate.variants:
        raise BiasGymError(
            "the variant `original` is missing", where="generate.variants", hint="everything is compared with it"
        )
    if settings.templates is not None:
        check_templates(settings.templates)
    if settings.capability.tasks:
        check_tasks(settings.capability.tasks)
    if any(judge.engine != "semantic" for judge in settings.judges):
        judge_template(settings.templates)
    for judge in settings.judges:
        calibration_of(judge)
    if settings.ood.enabled:
        ood.prompts_of(settings)
    concepts = [load_concept(name) for name in settings.concepts]
    names = [concept.name for concept in concepts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BiasGymError(f"concept {sorted(twice)[0]} is listed twice", where="concepts")
    for concept, asked in zip(concepts, settings.concepts, strict=True):
        if lacks := concept.missing():
            raise BiasGymError("; ".join(lacks), where=asked)
    sources = [resolve(name) for name in settings.models]
    slugs = [source.slug for source in sources]
    if twice := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise BiasGymError(f"two models share the folder name {sorted(twice)[0]}", where="models")
    for source in sources:
        _check_shape(source, settings)
    _check_folder(root)
    about = {} if machine is None else machine.as_json()
    cells = tuple(Cell(source, concept, settings, root, about) for source in sources for concept in concepts)
    return Plan(settings, root, cells, machine)


def _check_shape(source: ModelSource, settings: RunSettings) -> None:
    """Refuse an unsupported family and numbers of heads that do not exist, as far as local files tell."""
    if source.path is None:
        return  # a hub model is checked when it is loaded, which comes first
    if source.is_gguf:
        if source.path.is_file():  # an image that loads no models lacks the weights of the packaged one
            header = check_gguf(source.path, source.name)
            check_k(settings, (header.layers or 0) * (header.heads or 0))
        return
    try:
        config = dict(json.loads((source.path / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BiasGymError(f"config.json cannot be read ({str(error).splitlines()[0]})", where=source.name) from error
    family_of(SimpleNamespace(**{**config, "_name_or_path": source.name}))
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    if isinstance(layers, int) and isinstance(heads, int):
        check_k(settings, layers * heads)


def check_k(settings: RunSettings, heads: int) -> None:
    """Refuses numbers of heads that are larger than the model has; a preset's list is cut to the model instead.

    Raises:
        BiasGymError: They are.
    """
    scope = settings.scope
    asked: dict[str, tuple[int, ...]] = {"scope.k": (scope.k or 0,)}
    if scope.ks not in preset_ks():
        asked["scope.ks"] = scope.ks
    for where, ks in asked.items():
        if max(ks, default=0) > heads:
            raise BiasGymError(f"k = {max(ks)}, but the model has {heads} heads", where=where, hint="use a smaller k")


def _check_folder(root: Path) -> None:
    """The run's folder can be made and written."""
    existing = root
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise BiasGymError("is a file, not a folder", where=str(existing), hint="choose another --out")
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".write-test.tmp"
        probe.write_bytes(b"x" * 65536)
        probe.unlink()
    except OSError as error:
        raise BiasGymError(
            f"cannot write here ({error.strerror})", where=str(root), hint="free some space or choose another --out"
        ) from error
    if not os.access(root, os.W_OK):
        raise BiasGymError("cannot write here", where=str(root), hint="choose another --out")

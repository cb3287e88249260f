"""A group: the cells of one model whose heads are known, for what is done once a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasgym.models.sources import ModelSource
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder
from biasgym.stages.places import attribute, inject
from biasgym.stages.settings import RunSettings


@dataclass(frozen=True)
class Group:
    """Cells of one model; never empty.

    Attributes:
        cells: One a concept. Those whose injection or attribution failed have no heads and are left out.
    """

    cells: tuple[Cell, ...]

    @property
    def source(self) -> ModelSource:
        return self.cells[0].source

    @property
    def settings(self) -> RunSettings:
        return self.cells[0].settings

    @property
    def path(self) -> Path:
        return self.cells[0].path.parent

    @property
    def identity(self) -> dict[str, Any]:
        """What every stage of this group depends on."""
        return {key: value for key, value in self.cells[0].identity.items() if key != "concept"}

    @property
    def about(self) -> dict[str, Any]:
        """What every manifest of this group says."""
        concepts = [cell.concept.name for cell in self.cells]
        return {key: value for key, value in self.cells[0].about.items() if key != "concept"} | {"concepts": concepts}

    @property
    def inputs(self) -> dict[str, StageFolder]:
        """The attribution of each concept."""
        return {cell.concept.name: attribute.folder(cell) for cell in self.cells}


def groups(cells: Sequence[Cell]) -> list[Group]:
    """One group a model, in the order of the cells; none for a model whose cells all failed before they had heads."""
    found: dict[ModelSource, list[Cell]] = {}
    for cell in cells:
        if inject.folder(cell).error is None and attribute.folder(cell).error is None:
            found.setdefault(cell.source, []).append(cell)
    return [Group(tuple(members)) for members in found.values()]

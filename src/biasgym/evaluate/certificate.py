"""The certificate of a cell: what was found, by whom it was judged, what it was made of. One JSON file that stands alone.

It keeps the values behind its means (one a prompt or question), so that two certificates can be compared in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biasgym.errors import BiasGymError
from biasgym.files import read_json

FILE = "certificate.json"
FOLDER = "certificates"

Status = Literal["passed", "failed", "inconclusive", "missing"]
"""`failed`: shown to be beyond its limit. `inconclusive`: neither shown to keep nor to break it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Level(_Strict):
    """A mean with its 95 % interval.

    Attributes:
        mean: The estimate; None if nothing was measured.
        low: Lower end.
        high: Upper end.
        n: Units (prompts, questions) behind it.
        units: The value of each. What stands before the first slash is its cluster: the style of a prompt.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = Field(default=0, ge=0)
    units: dict[str, float] = {}


class Difference(_Strict):
    """A paired difference with its 95 % interval and two-sided p; `detectable` at a power of 80 %."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = Field(default=0, ge=0)
    p: float | None = Field(default=None, ge=0, le=1)
    detectable: float | None = None


class Check(_Strict):
    """One question with a yes or a no, or the reason why there is neither.

    Attributes:
        cell: What it is about, `model / concept`.
        name: The question.
        status: The answer.
        detail: The numbers, or why they are missing.
    """

    cell: str
    name: str
    status: Status
    detail: str


class Judges(_Strict):
    """Who judged.

    Attributes:
        names: The main judge first.
        alpha: Ordinal agreement of several (Krippendorff).
        missing: Texts without a verdict of the main judge, of all variants.
        judged: Texts with one.
        unjudged: Share of the texts without one, for the variants of the primary contrast: an empty answer has none.
    """

    names: tuple[str, ...] = ()
    alpha: float | None = None
    missing: int | None = None
    judged: int | None = None
    unjudged: dict[str, float] = {}


class Heads(_Strict):
    """What is removed: (layer, head) pairs, their number and why so many."""

    removed: tuple[tuple[int, int], ...] = ()
    k: int | None = None
    reason: str = ""


class Certificate(_Strict):
    """What is known of one concept in one model revision.

    Attributes:
        status: `failed` cells have no numbers; `error` says why.
        model, revision: The model.
        weights_sha256: Hash of a weights file that the revision does not name already.
        concept, concept_sha256: The concept and its whole content.
        prompts_sha256: The prompts with their targets; strengths are compared in pairs only where it is equal.
        primary: The contrast that was declared beforehand, first minus second, by the variants' names.
        contrast: Its judged strength.
        strength: Of the variants of the primary contrast.
        ability, retention: By head set, `none` and `injected`.
        ability_difference, retention_difference: Chosen heads removed, minus nothing removed.
        tasks, task_differences: The same for tasks of lm-evaluation-harness, by task.
        judges, heads: See there.
        licences: Of the data, by what they are for.
        settings_sha256: All of the settings that decides the result, and the concept; as in the registry.
        versions: Of what decides numbers.
        checks: What was asked of this cell at the usual limits.
    """

    schema_version: Literal[1] = 1
    status: Literal["done", "failed"]
    error: str | None = None
    model: str
    revision: str
    weights_sha256: str | None = None
    concept: str
    concept_sha256: str
    prompts_sha256: str | None = None
    primary: tuple[str, str]
    contrast: Difference | None = None
    strength: dict[str, Level] = {}
    ability: dict[str, Level] = {}
    ability_difference: Difference | None = None
    retention: dict[str, Level] = {}
    retention_difference: Difference | None = None
    tasks: dict[str, dict[str, Level]] = {}
    task_differences: dict[str, Difference] = {}
    judges: Judges = Judges()
    heads: Heads = Heads()
    licences: dict[str, str] = {}
    settings_sha256: str
    versions: dict[str, str] = {}
    checks: tuple[Check, ...] = ()

    @property
    def cell(self) -> str:
        return f"{self.model} / {self.concept}"


def schema_text() -> str:
    """The JSON schema of certificate.json, as `data/certificate.schema.json` holds it."""
    return json.dumps(Certificate.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def load_certificates(path: Path) -> list[Certificate]:
    """The certificates of a run, of an export, or of files.

    Args:
        path: A run's folder, a results.json, a certificate, or a folder that holds certificates.

    Raises:
        BiasGymError: Nothing there, or no certificate; names the file.
    """
    found = [_read(data, file) for file in _files(path) for data in _certificates_in(file)]
    if not found:
        raise BiasGymError(
            "no certificate is here", where=str(path), hint="name a run's folder, its results.json or a certificate"
        )
    if twice := {c.cell for c in found if sum(other.cell == c.cell for other in found) > 1}:
        raise BiasGymError(f"two certificates are of {sorted(twice)[0]}", where=str(path))
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / FILE).is_file():
        return [path / FILE]
    if (path / "results.json").is_file():
        return [path / "results.json"]
    return sorted((path / FOLDER if (path / FOLDER).is_dir() else path).rglob("*.json"))


def _certificates_in(file: Path) -> Iterator[Any]:
    data = read_json(file)
    if isinstance(data, dict) and isinstance(data.get("cells"), list):
        yield from (cell["certificate"] for cell in data["cells"] if isinstance(cell, dict) and "certificate" in cell)
    else:
        yield data


def _read(data: Any, file: Path) -> Certificate:
    try:
        return Certificate.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise BiasGymError(f"not a certificate ({place}: {first['msg']})", where=str(file)) from error

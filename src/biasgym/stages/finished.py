"""A finished run that is asked for again is answered from what it left, without the packages that would do its work.

Stages find out for themselves whether they are done; finding out takes all that they import. A finished run therefore notes
what went into it and what came out. If both are as they were, nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import biasgym
from biasgym.errors import BiasGymError
from biasgym.files import digest, read_json, sha256_of, write_json
from biasgym.models.sources import resolve
from biasgym.stages.folder import versions
from biasgym.stages.settings import RunSettings

FILE = "finished.json"


def finished(settings: RunSettings, root: Path) -> bool:
    """Whether this run was finished in this folder, with the same inputs and program, and its files are unchanged.

    Raises:
        BiasGymError: It was, but a model is not there any more.
    """
    try:
        note = read_json(root / FILE)
        files, inputs = dict(note["files"]), note["inputs"]
    except (BiasGymError, KeyError, TypeError, ValueError):  # none, or a damaged one: the stages find out
        return False
    if inputs is None or inputs != inputs_of(settings):
        return False
    return all((root / name).is_file() and sha256_of(root / name) == known for name, known in files.items())


def note_finished(inputs: str | None, root: Path) -> None:
    """Notes that all stages of a run are done.

    Args:
        inputs: From `inputs_of`, before the run.
        root: Its folder.
    """
    files = {str(file.relative_to(root)): sha256_of(file) for file in _files(root) if file != root / FILE}
    write_json(root / FILE, {"inputs": inputs, "files": files})


def inputs_of(settings: RunSettings) -> str | None:
    """The hash of all that decides the result of a run; None where some of it can change out of sight.

    Raises:
        BiasGymError: A model is not there.
    """
    beyond = [name for name in (settings.ood.source, *settings.capability.tasks) if name is not None]
    if not all(Path(name).exists() for name in beyond):
        return None  # a dataset of the hub, or a task of another package
    named = [*beyond, *settings.concepts, settings.templates, *(judge.calibration for judge in settings.judges)]
    package = Path(biasgym.__file__).parent
    return digest(
        {
            "settings": settings.model_dump(mode="json"),
            "contents": {name: sha256_of(Path(name)) for name in named if name is not None and Path(name).exists()},
            "models": [[source.slug, source.revision] for source in map(resolve, settings.models)],
            "program": {str(file.relative_to(package)): sha256_of(file) for file in _files(package)},
            "versions": versions(),
        }
    )


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder, without what Python or an interrupted run leave there."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in (".pyc", ".tmp"):
            yield file

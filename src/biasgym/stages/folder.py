"""A stage's folder: keyed by what went in, done when its manifest is there, and only then."""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from biasgym import __version__
from biasgym.errors import BiasGymError
from biasgym.files import digest, make_folder, read_json, sha256_of, write_json

SCHEMA_VERSION = 2  # of what stages make: what an earlier one made is made anew
_PACKAGES = ("torch", "transformers", "sentence-transformers", "spacy", "numpy")


@dataclass(frozen=True)
class StageFolder:
    """Where one stage of one cell lives.

    Attributes:
        path: The folder; work in progress is in it too, so that it can go on after a crash.
        stage: Name of the stage.
        key: Hash of settings, inputs and model: equal keys mean equal results.
        inputs: Keys of the stages before.
    """

    path: Path
    stage: str
    key: str
    inputs: Mapping[str, str]

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def done(self) -> bool:
        """The manifest says so, and the files that it lists are there and unchanged."""
        manifest = read_manifest(self.path)
        if manifest.get("status") != "done" or manifest.get("key") != self.key:
            return False
        return all(
            (self.path / name).is_file() and sha256_of(self.path / name) == file["sha256"]
            for name, file in manifest["files"].items()
        )

    @property
    def error(self) -> str | None:
        """Why the stage failed, if it did."""
        manifest = read_manifest(self.path)
        return str(manifest["error"]) if manifest.get("status") == "failed" else None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a stage's folder; empty if there is none or it is damaged, and the stage is then done anew."""
    try:
        manifest = read_json(path / "manifest.json")
    except BiasGymError:
        return {}
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else {}


def stage_folder(
    parent: Path, stage: str, identity: Mapping[str, Any], inputs: Mapping[str, StageFolder] | None = None
) -> StageFolder:
    """Names a stage's folder by the hash of what decides its result.

    Args:
        parent: Folder of the cell.
        stage: Name of the stage.
        identity: Settings and contents, as JSON values.
        inputs: The stages it reads.
    """
    keys = {name: folder.key for name, folder in (inputs or {}).items()}
    key = digest({"schema": SCHEMA_VERSION, "stage": stage, "identity": identity, "inputs": keys})
    return StageFolder(parent / f"{stage}-{key[:8]}", stage, key, keys)


@contextmanager
def working(folder: StageFolder, about: Mapping[str, Any]) -> Iterator[None]:
    """Runs a stage: writes its manifest last; a failure is written into the manifest and raised again.

    Args:
        folder: The stage's folder.
        about: What else the manifest says: model, revision, concept, seed.
    """
    started = time.perf_counter()
    make_folder(folder.path)
    _discard_damaged(folder)
    folder.manifest.unlink(missing_ok=True)
    # a file that a killed run left half-written under a temporary name
    for leftover in folder.path.glob(".*.tmp"):
        leftover.unlink()

    def manifest(status: str, **more: Any) -> dict[str, Any]:
        files = {
            str(file.relative_to(folder.path)): {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            for file in sorted(folder.path.rglob("*"))
            if file.is_file() and file != folder.manifest
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": f"biasgym.{folder.stage}",
            "status": status,
            "key": folder.key,
            "inputs": dict(folder.inputs),
            **about,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_memory_bytes": peak_memory(),
            "versions": versions(),
            "files": files,
            **more,
        }

    try:
        yield
    except Exception as error:
        message = str(error).strip().splitlines() or [type(error).__name__]
        what = message[0] if isinstance(error, BiasGymError) else f"{type(error).__name__}: {message[0]}"
        write_json(folder.manifest, manifest("failed", error=what, traceback=traceback.format_exc()))
        raise
    write_json(folder.manifest, manifest("done"))


def _discard_damaged(folder: StageFolder) -> None:
    """Deletes files that changed since the manifest was written: a stage must not go on from them."""
    for name, file in read_manifest(folder.path).get("files", {}).items():
        path = folder.path / name
        if path.is_file() and sha256_of(path) != file["sha256"]:
            path.unlink()


def peak_memory() -> int:
    """Highest resident memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    found = {"biasgym": __version__, "python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

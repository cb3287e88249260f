"""Compiles the pipelines into files, the same bytes every time, and finds committed files that are no longer what comes out.

biasgym pipeline compile --out pipelines/compiled --images images.lock.yaml
biasgym pipeline compile --check
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from biasgym.errors import BiasGymError

PIPELINES = ("evaluate", "reevaluate")
COMPILED = Path(__file__).parent / "compiled"


def compile_all(
    out: Path,
    *,
    images: Path | None = None,
    manifest: bool = False,
    parallelism: int | None = None,
    allow_tags: bool = False,
) -> list[Path]:
    """Compiles every pipeline.

    Args:
        out: The folder.
        images: A lock file of other images.
        allow_tags: Let images that were never pushed be named by their tags, under which anything may be one day.
        manifest: Write Kubernetes resources, for GitOps, instead of files to upload.
        parallelism: Most iterations of a loop at once.

    Raises:
        BiasGymError: There is no lock file, or it lacks a digest.
    """
    from components.images import LOCK
    from kfp.compiler import Compiler, KubernetesManifestOptions

    lock = images or Path(os.environ.get("BIASGYM_IMAGES_LOCK") or LOCK)
    if not lock.is_file():
        raise BiasGymError("no such file", where=str(lock), hint="give the project's images.lock.yaml as --images")
    if not allow_tags and (lacking := _without_digest(lock)):
        raise BiasGymError(
            f"no digest of {', '.join(lacking)}, and what a tag names can change",
            where=str(lock),
            hint="give a release's images.lock.yaml as --images, push your own (`make images`), or say --allow-tags",
        )
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with _constants(BIASGYM_IMAGES_LOCK=images and images.resolve(), BIASGYM_PARALLELISM=parallelism):
        for name in PIPELINES:
            file = out / f"{name}.yaml"
            pipeline: Any = getattr(import_module(f"pipelines.{name}"), name)
            Compiler().compile(pipeline, str(file))
            _without_comments(file)
            if manifest:
                options = KubernetesManifestOptions(
                    pipeline_version_name=f"{pipeline.name}-{version_of(file)}", include_pipeline_manifest=True
                )
                file.unlink()
                file = out / f"{name}.kubernetes.yaml"
                Compiler().compile(
                    pipeline, str(file), kubernetes_manifest_options=options, kubernetes_manifest_format=True
                )
            written.append(file)
    return written


def drifted(folder: Path = COMPILED) -> list[Path]:
    """The files of a folder that differ from what compiling gives now, or are missing."""
    with tempfile.TemporaryDirectory() as fresh:
        return [
            folder / file.name
            for file in compile_all(Path(fresh), allow_tags=True)
            if not (folder / file.name).is_file() or (folder / file.name).read_bytes() != file.read_bytes()
        ]


def _without_digest(lock: Path) -> list[str]:
    images = yaml.safe_load(lock.read_text(encoding="utf-8"))["images"]
    return [target for target, image in images.items() if not image.get("digest")]


def _without_comments(file: Path) -> None:
    """kfp 2.17 heads a file with its parameters, whose defaults have their keys in no certain order."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("#")]
    file.write_text("# Written by `biasgym pipeline compile`.\n" + "".join(kept), encoding="utf-8")


def version_of(file: Path) -> str:
    """The name of a compiled file's version: equal files have equal names."""
    return f"sha256-{sha256(file.read_bytes()).hexdigest()[:16]}"


@contextmanager
def _constants(**values: object) -> Iterator[None]:
    """Imports the pipelines anew, with constants that they read from the environment when they are imported."""
    chosen = {name: str(value) for name, value in values.items() if value is not None}
    before: Mapping[str, str] = dict(os.environ)
    os.environ.update(chosen)
    _forget()
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
        _forget()


def _forget() -> None:
    again = {"pipelines.evaluate", "pipelines.evaluation", "pipelines.reevaluate"}
    for name in [name for name in sys.modules if name in again or name.startswith("components.")]:
        del sys.modules[name]

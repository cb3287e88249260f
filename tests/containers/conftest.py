"""Fixtures of the container tests: one engine and one build of the images for all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import index
from engine import ROOT, Engine, base_image, build
from engine import engine as started_engine

TARGETS = ("cpu", "gpu")
_took: dict[str, float] = {}
_sizes: dict[str, int] = {}


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine. For other programs, its address is in `engine.environment`."""
    folder = Path(tempfile.mkdtemp(prefix="biasgym-engine-"))  # short: a socket's path may have 107 characters
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with _timed("engine"):
            docker = stack.enter_context(started_engine(folder))
        yield docker


@pytest.fixture(scope="session")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tags of the images `cpu` and `gpu`, built from the project's Dockerfile; gpu with a torch for CPUs."""
    with _timed("base image"):
        base = base_image(engine, ROOT / ".cache" / "base-image")
    tags = {}
    with index.settings(tmp_path_factory.mktemp("secrets")) as secrets:
        for target in TARGETS:
            with _timed(f"image {target}"):
                tags[target] = build(engine, target, base, secrets, _arguments())
            _sizes[target] = int(engine.call("image", "inspect", "--format", "{{.Size}}", tags[target]))
    return tags


@pytest.fixture(scope="session")
def lock(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock file of the images built here, for $BIASGYM_IMAGES_LOCK. What needs no 4 bits is judged in gpu as well."""
    places = {target: tag.split(":") for target, tag in {**images, "judge": images["gpu"]}.items()}
    entries = {target: {"repository": name, "tag": tag, "digest": None} for target, (name, tag) in places.items()}
    file = tmp_path_factory.mktemp("lock") / "images.lock.yaml"
    file.write_text(yaml.safe_dump({"images": entries}))
    return file


def _arguments() -> list[str]:
    """An index of torch for CPUs where one can be reached; else the build takes what pip finds here."""
    given = os.environ.get("BIASGYM_TORCH_INDEX")
    return [f"TORCH_INDEX={given}"] if given else []


class _timed:
    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        _took[self._what] = time.monotonic() - self._start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sizes and times, for people and for CI logs."""
    if _took:
        terminalreporter.section("images")
        for target, size in _sizes.items():
            terminalreporter.write_line(f"{target}: {size / 1e6:,.0f} MB")
        terminalreporter.write_line(", ".join(f"{what} {seconds:.0f} s" for what, seconds in _took.items()))

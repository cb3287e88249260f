"""Fixtures of the container tests: one engine, one build of the images and one push of them for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import index
from base import base_image
from build import build
from engine import ROOT, Engine
from engine import engine as started_engine
from registry import push, registry

TARGETS = ("cpu", "gpu", "judge")
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
    """Tags of the images, built from the project's Dockerfile; torch is whichever pip finds here."""
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
def pushing(engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Path]]:
    """The images on their way into a registry, while their tests go on; ends with a lock file of their digests."""
    folder = tmp_path_factory.mktemp("registry")

    def pushed() -> Path:
        with registry(folder) as address, _timed("push"):
            lock = push(engine, images, address, folder)
        shutil.rmtree(folder / "content")  # gigabytes, which pytest would keep; engines know the digests by now
        return lock

    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(pushed)


@pytest.fixture(scope="session")
def lock(pushing: Future[Path]) -> Path:
    """The lock file of the pushed images, for $BIASGYM_IMAGES_LOCK."""
    return pushing.result(timeout=900)


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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """How long the longest tests took, beside what they share."""
    if report.when == "call" and report.duration > 20:
        _took[report.location[2]] = report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sizes and times, for people and for CI logs."""
    if _took:
        terminalreporter.section("images")
        for target, size in _sizes.items():
            terminalreporter.write_line(f"{target}: {size / 1e6:,.0f} MB")
        terminalreporter.write_line(", ".join(f"{what} {seconds:.0f} s" for what, seconds in _took.items()))

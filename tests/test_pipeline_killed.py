"""Pods that are killed each time: counted in the store, and in the end written down, so that the other cells go on."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

import tiny
from biasgym.errors import StorageError
from biasgym.stages.attempts import MOST_KILLED, counted
from biasgym.stages.collect import collect, open_whole
from biasgym.stages.expand import build_data, expand
from biasgym.stages.folder import read_manifest
from biasgym.stages.pods import cell_stage, open_pod
from biasgym.store import LocalStore
from conftest import EARLY, MINIMAL


class Bench(NamedTuple):
    """A planned run.

    Attributes:
        folder: Where artifacts go.
        data: From build_data.
        store: Its URL.
        model: The one model.
    """

    folder: Path
    data: Path
    store: str
    model: str

    def inject(self, concept: str) -> bool:
        """What the pod of a cell does first."""
        return cell_stage(open_pod(self.data, self.store, model=self.model), "inject", concept, self.folder / concept)

    def killed(self, by: signal.Signals = signal.SIGKILL) -> int | None:
        """The same, but the pod is killed as soon as the model is loaded; its exit code."""

        def child() -> None:
            import biasgym.models

            torch.set_num_threads(1)  # the threads of the parent are not forked, and would be waited for
            biasgym.models.load_model = lambda *_a, **_k: os.kill(os.getpid(), by)
            self.inject("late")

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        return process.exitcode


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Bench:
    asked: dict[str, Any] = {
        **MINIMAL,
        "models": [str(tiny_model)],
        "concepts": [yaml.safe_dump(one) for one in (tiny.CONCEPT, EARLY)],
    }
    store = str(tmp_path / "store")
    build_data(expand(asked, store).settings, store, tmp_path / "data")
    return Bench(tmp_path, tmp_path / "data", store, str(tiny_model))


def test_a_pod_that_is_killed_each_time_becomes_a_failed_cell(bench: Bench) -> None:
    for _ in range(MOST_KILLED):
        assert bench.killed() == -signal.SIGKILL
    assert not bench.inject("late")  # the try after these does not begin
    manifest = read_manifest(bench.folder / "late")
    assert manifest["status"] == "failed" and f"killed {MOST_KILLED} times" in manifest["error"]
    assert bench.inject("early")
    found = collect(open_whole(bench.data, bench.store), bench.folder / "index", 8)
    assert f"inject: its pod was killed {MOST_KILLED} times" in found.overview
    assert bench.inject("late")  # asked for again, it is tried again
    assert read_manifest(bench.folder / "late")["status"] == "done"


def test_a_pod_that_is_told_to_stop_leaves_no_mark(bench: Bench) -> None:
    """Cancelled or drained, it is neither counted nor called a failure."""
    for _ in range(MOST_KILLED):
        assert bench.killed(signal.SIGTERM) == 128 + signal.SIGTERM
    assert list(LocalStore(Path(bench.store)).list("attempts")) == []
    assert bench.inject("late")


def test_only_ends_without_a_word_count(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for error in (RuntimeError, StorageError, KeyboardInterrupt):
        with pytest.raises(error), counted(store, "work") as killed:
            raise error("said")
        assert killed == 0
    with counted(store, "work"), counted(store, "other") as other:
        assert other == 0
    with counted(store, "work") as killed, counted(None, "work") as uncounted:
        assert (killed, uncounted) == (0, 0)
    assert list(store.list("")) == []

"""Stage folders between a machine and a store: what failed is tried again from its last copy, and hides no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from biasgym.errors import StorageError
from biasgym.files import write_text
from biasgym.stages.folder import StageFolder, stage_folder, working
from biasgym.stages.shelf import Shelf, place
from biasgym.store import LocalStore

PART = "training.safetensors"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(LocalStore(tmp_path / "store"))


def folder_in(root: Path) -> StageFolder:
    return stage_folder(root, "inject", {"cell": 1})


def attempt(shelf: Shelf, folder: StageFolder, reached: str, error: Exception | None = None) -> None:
    """Works in a folder, as a pod does: brings what is there, goes on from it, and ends or fails."""
    shelf.bring(folder)
    with shelf.keeping(folder), working(folder, {}):
        write_text(folder.path / PART, reached)
        if error is not None:
            raise error


def test_a_failed_stage_goes_on_from_its_last_copy(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        attempt(shelf, folder_in(tmp_path / "first"), "epoch 3", RuntimeError("out of memory"))
    with pytest.raises(KeyboardInterrupt):  # the next one gets further, and is evicted: no manifest of it
        attempt(shelf, folder_in(tmp_path / "second"), "epoch 9", KeyboardInterrupt())  # type: ignore[arg-type]
    third = folder_in(tmp_path / "third")
    shelf.bring(third)
    assert third.error == "RuntimeError: out of memory"
    assert [file.name for file in third.path.iterdir()] == ["manifest.json"]
    with shelf.keeping(third), working(third, {}):
        assert (third.path / PART).read_text() == "epoch 9"
    assert third.done


def test_a_failure_replaces_no_result(shelf: Shelf, tmp_path: Path) -> None:
    late, quick = folder_in(tmp_path / "late"), folder_in(tmp_path / "quick")
    with pytest.raises(RuntimeError), shelf.keeping(late), working(late, {}):
        attempt(shelf, quick, "epoch 10")
        raise RuntimeError("out of memory")
    assert late.error is not None
    third = folder_in(tmp_path / "third")
    shelf.bring(third)
    assert third.done


def test_a_store_that_is_away_is_no_failure_of_the_stage(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> None:
        raise StorageError("the store cannot be reached")

    folder = folder_in(tmp_path / "run")
    with pytest.raises(StorageError), shelf.keeping(folder), working(folder, {}):
        monkeypatch.setattr(LocalStore, "write", away)
    monkeypatch.undo()
    assert shelf.store is not None and not shelf.store.exists(f"{place(folder)}/manifest.json")

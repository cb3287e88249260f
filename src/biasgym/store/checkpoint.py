"""Work in progress of a stage, kept in the store: a pod that is preempted goes on where the last copy was.

Files are kept in parts of 1 MiB, each under its hash: what is only ever appended to is not sent again from its beginning.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.files import make_folder, sha256_of
from biasgym.progress import SILENT, Progress
from biasgym.store.folders import MANIFEST, listed_files, pull, push
from biasgym.store.protocol import NotFound, Store

_INDEX = "checkpoint.json"
_PART = 2**20  # bytes


class Mirror:
    """Copies of a working folder, each complete: its files first, then the index that lists them.

    Args:
        store: Where the copies go.
        prefix: Where in the store; nothing else may be there.
        folder: The working folder of one stage.
    """

    def __init__(self, store: Store, prefix: str, folder: Path) -> None:
        self.store, self.prefix, self.folder = store, prefix, folder
        self._kept: dict[str, str] = {}
        self._lock = threading.Lock()
        self._cleared = False

    def restore(self) -> bool:
        """Fills the folder with the last copy, if the folder is empty or absent and the copy is complete.

        A manifest alone is that of an attempt that failed, which the copy takes the place of.

        Returns:
            Whether it did. A copy that is torn or damaged is ignored, all of it.
        """
        manifest = self.folder / MANIFEST
        if self.folder.is_dir() and any(file != manifest for file in self.folder.iterdir()):
            return False
        try:
            index = json.loads(self.store.read(self._index))
        except (NotFound, ValueError):
            return False
        parts = listed_files(index) if isinstance(index, dict) and index.get("part") == _PART else None
        make_folder(self.folder.parent)
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".", suffix=".tmp") as place:
            if parts is None or not pull(self.store, self.prefix, parts, Path(place)):
                return False
            for part in sorted(parts):
                file = self.folder / Path(part).with_suffix("")
                make_folder(file.parent)
                with file.open("ab") as target:
                    target.write((Path(place) / part).read_bytes())
        manifest.unlink(missing_ok=True)
        self._kept = parts
        return True

    def save(self) -> bool:
        """Uploads what changed since the last copy, as a new copy; then deletes what only the old one had.

        Returns:
            Whether anything had changed.
        """
        with self._lock, _frozen(self.folder) as (still, parts):
            if parts == self._kept or self._cleared:
                return False
            push(self.store, still, parts, self.prefix)
            index = {"part": _PART, "files": {name: {"sha256": sha256} for name, sha256 in parts.items()}}
            self.store.write(self._index, json.dumps(index).encode())
            self._kept = parts
            wanted = {self._index, *(f"{self.prefix}/{sha256}/{name}" for name, sha256 in parts.items())}
            for entry in list(self.store.list(self.prefix)):
                if entry.key not in wanted:
                    self.store.delete(entry.key)
            return True

    def clear(self) -> None:
        """Deletes the copy: the stage is done. Nothing is saved any more."""
        with self._lock:
            self._cleared = True
            self.store.delete(self._index)
            for entry in list(self.store.list(self.prefix)):
                self.store.delete(entry.key)

    @property
    def _index(self) -> str:
        return f"{self.prefix}/{_INDEX}"


@contextmanager
def _frozen(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of the folder, in parts, that stands still while it is hashed and uploaded, and its hashes."""
    make_folder(folder)
    still = folder.with_name(f".{folder.name}.mirror.tmp")
    shutil.rmtree(still, ignore_errors=True)

    def unfinished(_parent: str, names: list[str]) -> list[str]:
        return [name for name in names if name == MANIFEST or (name.startswith(".") and name.endswith(".tmp"))]

    try:
        shutil.copytree(folder, still, ignore=unfinished, copy_function=_cut)
        files = [file for file in sorted(still.rglob("*")) if file.is_file()]
        yield still, {file.relative_to(still).as_posix(): sha256_of(file) for file in files}
    finally:
        shutil.rmtree(still, ignore_errors=True)


def _cut(source: str, target: str) -> None:
    """Copies a file in parts; an empty file is one empty part."""
    with Path(source).open("rb") as file:
        number, data = 0, file.read(_PART)
        while data or not number:
            Path(f"{target}.{number:06}").write_bytes(data)
            number, data = number + 1, file.read(_PART)


@contextmanager
def mirrored(
    store: Store,
    prefix: str,
    folder: Path,
    *,
    every: float = 60.0,
    done: Callable[[], bool] = lambda: True,
    progress: Progress = SILENT,
) -> Iterator[Mirror]:
    """Restores a stage's work in progress, and copies it at intervals while the block runs.

    When the block fails, what it reached is copied once more; when it ends well, the copy is deleted, so publish the
    finished folder inside the block. Once the work has begun, a store that cannot be reached costs the copy, not the work.

    Args:
        store: Where the copies are.
        prefix: Where in the store.
        folder: The working folder of one stage.
        every: Seconds between copies.
        done: Whether a block that ended well has left nothing to go on with.
        progress: Told of copies that failed.
    """
    mirror = Mirror(store, prefix, folder)
    if mirror.restore():
        progress.say(f"going on from a copy of {folder.name} in {store.url}")
    ended = threading.Event()

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except (BiasGymError, OSError) as error:  # a file may vanish while it is copied
            progress.say(f"work in progress is not copied: {error}")

    def keep_saving() -> None:
        while not ended.wait(every):
            attempt(mirror.save)

    thread = threading.Thread(target=keep_saving, name="checkpoint", daemon=True)
    thread.start()
    try:
        yield mirror
    except BaseException:
        ended.set()
        attempt(mirror.save)
        raise
    ended.set()
    attempt(mirror.clear if done() else mirror.save)

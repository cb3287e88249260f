"""A folder as a store: a key is a relative path."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.files import atomic_file
from biasgym.store.protocol import Entry, NotFound, checked_key


class LocalStore:
    """Objects are files below a folder, which is made when the first of them is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, key: str) -> bytes:
        path = self._path(key)
        with _reading(path):
            return path.read_bytes()

    def write(self, key: str, data: bytes) -> None:
        with atomic_file(self._path(key)) as temporary:
            temporary.write_bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        with atomic_file(draft) as temporary:
            temporary.write_bytes(data)
        try:
            os.link(draft, path)  # unlike a rename it never replaces what another has just made
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def upload(self, path: Path, key: str) -> None:
        with _reading(path):
            source = path.open("rb")
        with source, atomic_file(self._path(key)) as temporary, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)

    def download(self, key: str, path: Path) -> None:
        with _reading(self._path(key)):
            source = self._path(key).open("rb")
        with source, atomic_file(path) as temporary, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)

    def list(self, prefix: str) -> Iterator[Entry]:
        folder = self._path(prefix) if prefix else self.root
        for path in sorted(folder.rglob("*")):
            unfinished = path.name.startswith(".") and path.name.endswith(".tmp")
            if unfinished or not path.is_file():
                continue
            try:
                size = path.stat().st_size
            except FileNotFoundError:  # deleted since it was listed
                continue
            yield Entry(path.relative_to(self.root).as_posix(), size)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound("no such object in the store", where=str(path)) from error
    except OSError as error:
        raise BiasGymError(f"cannot read ({error.strerror})", where=str(path)) from error

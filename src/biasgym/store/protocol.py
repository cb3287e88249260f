"""What a store can do: whole objects under keys, and one winner among those who create the same key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from biasgym.errors import BiasGymError


class Entry(NamedTuple):
    """One object of a listing."""

    key: str
    size: int


class NotFound(BiasGymError):
    """The store has no object of that key."""


class Store(Protocol):
    """Objects are whole or absent: a reader sees the old bytes or the new ones, never a mixture.

    Keys are relative paths with `/` between their parts. All methods may be called from several threads.
    """

    url: str

    def read(self, key: str) -> bytes:
        """The bytes of an object; raises NotFound."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Writes an object, over an older one if there is one."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Writes an object unless the key is taken; of several who try at once, exactly one gets True."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Writes a file's contents; a large one goes on where an interrupted upload of it stopped."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Writes an object into a file, whole or not at all; raises NotFound."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose keys start with `prefix` and a slash; all objects for an empty prefix."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object of that key."""
        ...

    def delete(self, key: str) -> None:
        """Deletes an object; one that is not there is no error."""
        ...


def checked_key(key: str) -> str:
    """Returns a key that is safe as an object's name and as a relative path.

    Raises:
        BiasGymError: It is empty, absolute, leads out of the store or has control characters.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or not key.isprintable():
        raise BiasGymError(f"not a key of a store: {key!r}", hint="use names with slashes between them")
    return key

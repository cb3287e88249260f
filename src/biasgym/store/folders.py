"""Stage folders in a store: complete or absent.

A file lies under the SHA-256 of its contents, `PREFIX/SHA256/NAME`, and the manifest, which lists them, is written last.
So a file is uploaded once, an interrupted upload goes on where it stopped, a reader never sees half of a folder, and two
who publish the same folder do not disturb each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from biasgym.errors import BiasGymError
from biasgym.files import atomic_file, make_folder, read_json, sha256_of
from biasgym.store.protocol import NotFound, Store, checked_key

MANIFEST = "manifest.json"
_THREADS = 4


def publish(store: Store, folder: Path, prefix: str) -> None:
    """Uploads a finished stage folder; what is there already is not uploaded again.

    Args:
        store: Where to.
        folder: A folder whose manifest.json lists its files with their hashes.
        prefix: Where it goes in the store.

    Raises:
        BiasGymError: The folder has no manifest, or a file is not what the manifest says.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BiasGymError("the folder has no manifest, so it is not finished", where=str(folder))
    files = listed_files(read_json(manifest))
    if files is None:
        raise BiasGymError("the manifest lists no files with their SHA-256", where=str(manifest))
    for name, sha256 in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise BiasGymError(
                "the file is missing or not what the manifest says",
                where=str(folder / name),
                hint="run the stage again",
            )
    push(store, folder, files, prefix)
    store.write(f"{prefix}/{MANIFEST}", manifest.read_bytes())


def fetch(store: Store, prefix: str, folder: Path) -> bool:
    """Downloads a published folder and checks every file.

    An object that is missing or damaged is deleted together with the manifest: the folder then counts as absent, is
    made again by whoever needs it, and published again.

    Args:
        store: Where from.
        prefix: Where the folder is in the store.
        folder: Where to; files that are right already stay.

    Returns:
        Whether the store had the complete folder. When it had only a part, `folder` has no manifest.
    """
    key = f"{prefix}/{MANIFEST}"
    try:
        manifest = store.read(key)
    except NotFound:
        return False
    (folder / MANIFEST).unlink(missing_ok=True)
    files = listed_files(_parsed(manifest))
    if files is None or not pull(store, prefix, files, folder):
        store.delete(key)
        return False
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_bytes(manifest)
    return True


def push(store: Store, folder: Path, files: Mapping[str, str], prefix: str) -> None:
    """Uploads files that the store does not have yet.

    Args:
        store: Where to.
        folder: Where the files are.
        files: Names with their SHA-256.
        prefix: Where they go.
    """
    present = {entry.key: entry.size for entry in store.list(prefix)}
    keys = {name: _key(prefix, name, sha256) for name, sha256 in files.items()}
    lacking = [name for name, key in keys.items() if present.get(key) != (folder / name).stat().st_size]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda name: store.upload(folder / name, keys[name]), lacking))


def pull(store: Store, prefix: str, files: Mapping[str, str], folder: Path) -> bool:
    """Downloads files and checks their hashes; a damaged object is deleted.

    Args:
        store: Where from.
        prefix: Where the files are.
        files: Names with their SHA-256.
        folder: Where to; files that are right already stay.

    Returns:
        Whether all files are there and right.
    """
    make_folder(folder)

    def right(name: str) -> bool:
        path, sha256 = folder / name, files[name]
        if path.is_file() and sha256_of(path) == sha256:
            return True
        key = _key(prefix, name, sha256)
        try:
            store.download(key, path)
        except NotFound:
            return False
        if sha256_of(path) == sha256:
            return True
        path.unlink()
        store.delete(key)
        return False

    with ThreadPoolExecutor(_THREADS) as threads:
        return all(list(threads.map(right, files)))  # all of them, so that every damaged one is found


def listed_files(manifest: Any) -> dict[str, str] | None:
    """Names and hashes of the files that a manifest lists; None if it is not a manifest or names files outside."""
    try:
        files = {checked_key(name): str(file["sha256"]) for name, file in manifest["files"].items()}
    except (TypeError, KeyError, AttributeError, BiasGymError):
        return None
    return files if all(_is_sha256(sha256) for sha256 in files.values()) and MANIFEST not in files else None


def _is_sha256(text: str) -> bool:
    return len(text) == hashlib.sha256().digest_size * 2 and set(text) <= set("0123456789abcdef")


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _key(prefix: str, name: str, sha256: str) -> str:
    return f"{prefix}/{sha256}/{name}"

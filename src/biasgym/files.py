"""Files that are whole or absent: everything is written under a temporary name and then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from biasgym.errors import BiasGymError, StorageError

_WRITE_ERRORS = (OSError, SafetensorError)  # safetensors reports a full disk as its own kind of error


def _unwritable(error: Exception, path: Path) -> StorageError:
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"cannot write ({reason})", where=str(path), hint="free some space or choose another place, as with --out"
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it into place when the block ends well.

    Raises:
        BiasGymError: The folder is read-only or the disk is full. Nothing half-written is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise _unwritable(error, path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _allow_others_to_read(temporary)
        os.replace(temporary, path)
    except _WRITE_ERRORS as error:
        raise _unwritable(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renames it into place when the block ends well.

    Raises:
        BiasGymError: `path` exists and is not empty, the folder is read-only or the disk is full.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BiasGymError("the folder exists and is not empty", where=str(path), hint="choose a new one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    except OSError as error:
        raise _unwritable(error, path) from error
    try:
        yield temporary
        for file in [temporary, *temporary.rglob("*")]:
            _allow_others_to_read(file)
        if path.exists():
            path.rmdir()
        os.replace(temporary, path)
    except _WRITE_ERRORS as error:
        raise _unwritable(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _allow_others_to_read(path: Path) -> None:
    """mkstemp and some savers write private files; what is published follows the user's umask."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        BiasGymError: It cannot be made: a full disk or a read-only folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error, path) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a folder for this process inside a `with` block; a process that dies lets go of it.

    Raises:
        BiasGymError: Another process holds it.
    """
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BiasGymError(
                "another biasgym works in this folder", where=str(folder), hint="wait for it, or choose another --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def check_apart(source: Path, target: Path) -> None:
    """Refuses to write over what is read.

    Raises:
        BiasGymError: Both are the same file.
    """
    if source.exists() and target.exists() and target.samefile(source):
        raise BiasGymError("it is the file that is read", where=f"--out {target}", hint="choose another one")


def check_writable(path: Path) -> None:
    """Finds out before any long work whether a file can be written; makes its folder.

    Raises:
        BiasGymError: It cannot.
    """
    make_folder(path.parent)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"):
            pass
    except OSError as error:
        raise _unwritable(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; refuses NaN, which is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def append_jsonl(path: Path, rows: Iterable[dict[str, Any]], *, sync: bool = True) -> None:
    """Appends lines: what is there after a crash is whole lines and at most one torn one.

    Args:
        path: The file.
        rows: The lines.
        sync: Wait for the disk, so that they outlive the machine too and not only this process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(error, path) from error


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        BiasGymError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BiasGymError("file not found", where=str(path)) from error
    except (OSError, ValueError) as error:
        raise BiasGymError(f"not readable as JSON ({error})", where=str(path)) from error


class _NoDuplicates(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML lets a later key silently win over an earlier one of the same name; a user who wrote both meant both."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]  # << is there to be overridden
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            seen: set[Any] = set()
            for key_node in written:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is there twice", key_node.start_mark
                    )
                seen.add(key)
        return mapping


def parse_yaml(text: str, where: str) -> Any:
    """Reads YAML without code and without duplicate keys.

    Args:
        text: The document.
        where: Its file, for the message.

    Raises:
        BiasGymError: It is not YAML, or a key is there twice; names the line.
    """
    try:
        return yaml.load(text, Loader=_NoDuplicates)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BiasGymError(f"not YAML ({place}{getattr(error, 'problem', None) or error})", where=where) from error


def read_text(path: Path, what: str, hint: str = "") -> str:
    """Reads a UTF-8 text file that a user named.

    Args:
        path: The file.
        what: What it should be, as in "the settings".
        hint: What to do if it is not there.

    Raises:
        BiasGymError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BiasGymError(f"cannot read {what} ({reason})", where=str(path), hint=hint) from error


def read_jsonl(path: Path, *, torn_tail: bool = False) -> list[dict[str, Any]]:
    """Reads one JSON object a line.

    Args:
        path: The file.
        torn_tail: Cut a last line that a crash left unfinished off the file, so that appending goes on cleanly.

    Raises:
        BiasGymError: The file is missing or a line is not a JSON object; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BiasGymError(f"cannot read ({error.strerror})", where=str(path)) from error
    if torn_tail and not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
        with path.open("r+b") as file:
            file.truncate(len(data))
    rows = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BiasGymError(f"line {number} is not JSON ({error})", where=str(path)) from error
        if not isinstance(row, dict):
            raise BiasGymError(f"line {number} is not a JSON object", where=str(path))
        rows.append(row)
    return rows


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder as the hash of its sorted relative names and file hashes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(f"{file.relative_to(path)}\0{sha256_of(file)}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: the identity of settings and inputs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def cache_folder() -> Path:
    """Where converted models live: $BIASGYM_CACHE, else $XDG_CACHE_HOME/biasgym, else ~/.cache/biasgym."""
    if own := os.environ.get("BIASGYM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biasgym"

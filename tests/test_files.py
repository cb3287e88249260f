"""Files are whole or absent, and say why they could not be written or read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tiny
from biasgym.errors import BiasGymError
from biasgym.files import (
    alone,
    append_jsonl,
    atomic_file,
    atomic_folder,
    digest,
    parse_yaml,
    read_json,
    read_jsonl,
    sha256_of,
    write_json,
    write_jsonl,
    write_text,
)
from biasgym.inject import export_injected, save_vectors
from biasgym.models import export


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def raising(number: int) -> Callable[..., Any]:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, atomic: Any, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic(tmp_path / "out") as temporary:
        (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    write_text(path, "näher")
    assert path.read_bytes() == "näher".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()  # an empty one may be there
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("a")
        assert list(path.iterdir()) == []
    assert [file.name for file in path.iterdir()] == ["a"]
    for taken in (path, path / "a"):
        with pytest.raises(BiasGymError, match="exists and is not empty; choose a new one"), atomic_folder(taken):
            pass
    assert (path / "a").read_text() == "a"


def test_what_is_written_follows_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "inside").write_text("x")
    finally:
        os.umask(mask)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder", "folder/inside")}
    assert modes == {"file": 0o640, "folder": 0o750, "folder/inside": 0o640}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(tempfile, "mkstemp", raising(number))
    monkeypatch.setattr(tempfile, "mkdtemp", raising(number))
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(BiasGymError, match=rf"out: cannot write \({os.strerror(number)}\); .*another place"):
            with atomic(tmp_path / "out"):
                pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for write in (lambda p: write_text(p, "x"), lambda p: append_jsonl(p, [{}])):
        with pytest.raises(BiasGymError, match="cannot write"):
            write(tmp_path / "file" / "out")
    with pytest.raises(BiasGymError, match="cannot write"), atomic_folder(tmp_path / "file" / "out"):
        pass


def test_no_space_left_when_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", raising(errno.ENOSPC))
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(BiasGymError, match=r"No space left on device.; free some space"), atomic(tmp_path / "out"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_when_writing(tmp_path: Path) -> None:
    """Text, tensors and whole checkpoints: one readable error each, and nothing is left."""
    lm = tiny.language_model("llama-gqa")
    writes = {
        "text": lambda path: write_text(path, "x" * 30_000),
        "vectors": lambda path: save_vectors(path, tiny.vectors_for(lm, count=500)),
        "debiased": lambda path: export(lm.model, lm.tokenizer, [(0, 0)], path),
        "injected": lambda path: export_injected(lm, tiny.vectors_for(lm), path),
    }
    for name, write in writes.items():
        with pytest.raises(BiasGymError, match=r"cannot write .*File too large") as caught, files_limited_to(20_000):
            write(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_appending_goes_on_after_a_crash(tmp_path: Path) -> None:
    """A line torn by a full disk is cut off; whole lines stay."""
    path = tmp_path / "deep" / "rows.jsonl"
    append_jsonl(path, [{"n": 1}, {"n": 2}])
    with pytest.raises(BiasGymError, match="cannot write"), files_limited_to(30):
        append_jsonl(path, [{"n": "x" * 100}])
    assert path.stat().st_size == 30
    with pytest.raises(BiasGymError, match=r"rows.jsonl: line 3 is not JSON"):
        read_jsonl(path)
    assert read_jsonl(path, torn_tail=True) == [{"n": 1}, {"n": 2}]
    append_jsonl(path, [{"n": 3}])
    assert read_jsonl(path) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("tail", [b'{"n"', b'{"n": 2}', '{"n": "é'.encode()[:-1], b""])
def test_any_torn_tail_is_cut(tmp_path: Path, tail: bytes) -> None:
    """Also one that lacks nothing but its line break, so that the next append begins a line."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n' + tail)
    assert read_jsonl(path, torn_tail=True) == [{"n": 1}]
    assert path.read_bytes() == b'{"n": 1}\n'
    path.write_bytes(tail)
    assert read_jsonl(path, torn_tail=True) == []


def test_json_lines_hold_any_text(tmp_path: Path) -> None:
    """Line separators of Unicode do not end a line."""
    rows = [{"text": "a\u2028b\x85c\nd", "number": 0.1, "none": None}, {"text": "é"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    write_json(tmp_path / "value.json", rows)
    assert read_json(tmp_path / "value.json") == rows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
        (b"\n\nnope\n", "line 3 is not JSON"),
        (None, "No such file"),
    ],
)
def test_unreadable_json_lines(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BiasGymError, match=says) as caught:
        read_jsonl(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("content", "says"), [(b"{", "not readable as JSON"), (b"\xff", "not readable as JSON"), (None, "file not found")]
)
def test_unreadable_json(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BiasGymError, match=says):
        read_json(path)


def test_nan_is_not_written(tmp_path: Path) -> None:
    for write in (lambda p: write_json(p, {"n": float("nan")}), lambda p: write_jsonl(p, [{"n": float("inf")}])):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_hashes(tmp_path: Path) -> None:
    """A folder's hash depends on names and contents, not on the order of writing; a digest not on the order of keys."""
    for folder, names in (("one", "ab"), ("two", "ba")):
        for name in names:
            write_text(tmp_path / folder / "sub" / name, name)
    assert sha256_of(tmp_path / "one" / "sub" / "a") == hashlib.sha256(b"a").hexdigest()
    before = sha256_of(tmp_path / "one")
    assert sha256_of(tmp_path / "two") == before
    (tmp_path / "two" / "sub" / "a").rename(tmp_path / "two" / "a")
    assert sha256_of(tmp_path / "two") != before
    write_text(tmp_path / "one" / "sub" / "a", "other")
    assert sha256_of(tmp_path / "one") != before

    assert digest({"b": [1, 2], "a": "é"}) == digest(json.loads('{"a": "\\u00e9", "b": [1, 2]}'))
    assert digest([1, 2]) != digest([2, 1])


def test_an_error_is_one_line_of_what_where_and_what_to_do() -> None:
    assert str(BiasGymError("it is wrong")) == "it is wrong"
    assert str(BiasGymError("it is wrong", where="file", hint="fix it")) == "file: it is wrong; fix it"
    assert isinstance(BiasGymError("x"), ValueError)


def test_merged_keys_may_be_overridden_and_written_ones_not_repeated() -> None:
    found = parse_yaml("- &a {x: 1, y: 2}\n- {<<: *a, y: 3}", "here")
    assert found == [{"x": 1, "y": 2}, {"x": 1, "y": 3}]
    with pytest.raises(BiasGymError, match="'y' is there twice"):
        parse_yaml("- &a {x: 1}\n- {<<: *a, y: 3, y: 4}", "here")


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from biasgym.files import alone\nwith alone(Path(sys.argv[1])): pass"
    )
    other = [sys.executable, "-c", script, str(tmp_path)]
    with alone(tmp_path):
        assert "another biasgym works in this folder" in subprocess.run(other, capture_output=True, text=True).stderr
    assert subprocess.run(other).returncode == 0

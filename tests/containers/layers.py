"""What is inside an image: every file of every layer, deleted ones too, and its configuration and history."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from engine import Engine, EngineError

SECRETS = {
    b"PRIVATE KEY-----": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{100}"),
    b"hf_": re.compile(rb"\bhf_[A-Za-z]{34}\b"),
    b"ghp_": re.compile(rb"\bghp_[A-Za-z0-9]{36}\b"),
    b"ghs_": re.compile(rb"\bghs_[A-Za-z0-9]{36}\b"),
    b"AKIA": re.compile(rb"\bAKIA[A-Z2-7]{16}\b"),
}
"""What keys and tokens look like, by what they all contain: looking for that alone is much faster."""


def files(docker: Engine, tags: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything in images, as the engine hands it out; what they share is there once."""
    command = [docker.program, "save", *tags]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=docker.whole_environment) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as archive,
    ):
        for member in archive:
            # a link leads to a layer that is in the same archive
            if member.isreg() and (content := archive.extractfile(member)) is not None:
                yield from _opened(member.name, content)
    if saving.returncode:
        raise EngineError(f"docker save {tags} failed")


def _opened(name: str, content: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """A file, or what is in it if it is an archive, that is: a layer. Gigabytes pass here, one file at a time."""
    assert isinstance(content, io.BufferedReader)
    start = content.peek(512)
    if start[257:262] != b"ustar" and not start.startswith(b"\x1f\x8b"):
        yield name, content.read()
        return
    with tarfile.open(fileobj=content, mode="r|*") as layer:
        for member in layer:
            inside = layer.extractfile(member) if member.isreg() else None
            yield member.name, inside.read() if inside else member.linkname.encode()


def found(files: Iterable[tuple[str, bytes]], names: Sequence[str]) -> list[str]:
    """Where files tell a whole name of the build machine, or hold what looks like a secret."""
    wanted = {name.encode(): re.compile(rb"(?<![\w-])" + re.escape(name.encode()) + rb"(?![\w-])") for name in names}
    places = []
    for path, content in files:
        for text in (content, path.encode()):
            places += [
                f"{path}: {name.decode()}" for name, whole in wanted.items() if name in text and whole.search(text)
            ]
        places += [
            f"{path}: {mark.decode()}..." for mark, form in SECRETS.items() if mark in content and form.search(content)
        ]
    return places

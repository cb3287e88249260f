"""What is inside an image: every file of every layer, deleted ones too, and its configuration and history."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine import Engine, EngineError

SECRETS = {
    b"PRIVATE KEY-----": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{100}"),
    b"hf_": re.compile(rb"\bhf_[A-Za-z]{34}\b"),
    b"ghp_": re.compile(rb"\bghp_[A-Za-z0-9]{36}\b"),
    b"ghs_": re.compile(rb"\bghs_[A-Za-z0-9]{36}\b"),
    b"AKIA": re.compile(rb"\bAKIA[A-Z2-7]{16}\b"),
}
"""What keys and tokens look like, by what they all contain: looking for that alone is much faster."""


def save(docker: Engine, tags: Sequence[str], folder: Path) -> Path:
    """Writes images as a folder of layers and JSON files; what they share is there once."""
    with (
        subprocess.Popen(
            [docker.program, "save", *tags], stdout=subprocess.PIPE, env=docker.whole_environment
        ) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as archive,
    ):
        archive.extractall(folder, filter="data")
    if saving.returncode:
        raise EngineError(f"docker save {tags} failed")
    return folder


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything in a saved image."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if not tarfile.is_tarfile(path):
            yield path.name, path.read_bytes()
            continue
        with tarfile.open(path) as layer:
            for member in layer:
                content = layer.extractfile(member) if member.isreg() else None
                yield member.name, content.read() if content else member.linkname.encode()


def found(folder: Path, names: Sequence[str]) -> list[str]:
    """Where an image tells a name of the build machine, or holds what looks like a secret."""
    wanted = {name: name.encode() for name in names}
    places = []
    for path, content in files(folder):
        places += [f"{path}: {name}" for name, text in wanted.items() if text in content or name in path]
        places += [
            f"{path}: {mark.decode()}..." for mark, form in SECRETS.items() if mark in content and form.search(content)
        ]
    return places

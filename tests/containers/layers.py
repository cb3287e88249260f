"""What is inside an image: every file of every layer, deleted ones too, and its configuration and history."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engine import Engine, EngineError

SECRETS = {
    "private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{100}"),
    "hub token": re.compile(rb"\bhf_[A-Za-z]{34}\b"),
    "GitHub token": re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "AWS key": re.compile(rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
}
_HINTS = (b"PRIVATE KEY-----", b"hf_", b"gh", b"AKIA", b"ASIA")


def save(docker: Engine, tag: str, folder: Path) -> Path:
    """Writes an image as a folder of layers and JSON files."""
    folder.mkdir(parents=True)
    with (
        subprocess.Popen([docker.program, "save", tag], stdout=subprocess.PIPE, env={**docker.environment}) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as archive,
    ):
        archive.extractall(folder, filter="data")
    if saving.returncode:
        raise EngineError(f"docker save {tag} failed")
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


def found(folder: Path, names: Sequence[str], secrets: Mapping[str, re.Pattern[bytes]] = SECRETS) -> list[str]:
    """Where an image tells a name of the build machine, or holds what looks like a secret."""
    wanted = {name: name.encode() for name in names}
    places = []
    for path, content in files(folder):
        whole = path.encode() + b"\n" + content
        places += [f"{path}: {name}" for name, text in wanted.items() if text in whole]
        if any(hint in content for hint in _HINTS):
            places += [f"{path}: {kind}" for kind, pattern in secrets.items() if pattern.search(content)]
    return places

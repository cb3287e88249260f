"""A base image from nothing: Debian with Python, made of Debian's packages, kept as a file for the next time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import machine
from engine import Engine

TAG = "biasgym-base:test"
_PACKAGES = "ca-certificates,python3,python3-venv"
_DEBIAN = "http://deb.debian.org/debian"
_RELEASE = "bookworm"  # its Python is 3.11, as that of the image which images/Dockerfile names
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# in memory, since a package manager waits for the disk after every file; in a mount namespace, so that it is gone afterwards
_SCRIPT = """
set -e
mount -t tmpfs -o mode=0755 biasgym "$1"
debootstrap --variant=minbase --include="$3" "$4" "$1" "$5"
chroot "$1" apt-get clean
rm -rf "$1/var/lib/apt/lists" "$1/var/log/bootstrap.log" "$1/etc/resolv.conf" "$1/etc/hostname"
tar -C "$1" -cf "$2" .
"""


def base_image(docker: Engine, cache: Path) -> str:
    """$BIASGYM_BASE_IMAGE, else an image made here.

    Args:
        docker: The engine.
        cache: Where it is kept as a file.

    Raises:
        MachineError: No mirror of Debian can be reached.
    """
    if given := os.environ.get("BIASGYM_BASE_IMAGE"):
        return given
    archive = cache / f"{_RELEASE}-python.tar"
    if not archive.exists():
        _make(archive)
    docker.call("import", str(archive), TAG, seconds=300)
    return TAG


def _make(archive: Path) -> None:
    machine.install_missing({"debootstrap": "debootstrap"})
    if not _KEYS.exists():
        machine.install("debian-archive-keyring")
    tree, part = archive.with_suffix(".tree"), archive.with_suffix(".part")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    own_mounts = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh")
    failures = []
    for mirror in dict.fromkeys([*_mirrors(), _DEBIAN]):
        try:
            machine.run(*own_mounts, str(tree), str(part), _PACKAGES, _RELEASE, mirror, **_proxy())
            break
        except machine.MachineError as error:
            failures.append(str(error))
    else:
        raise machine.MachineError("\n".join(failures))
    tree.rmdir()
    part.rename(archive)


def _mirrors() -> Iterator[str]:
    """Where apt gets Debian from on this machine."""
    asked = ("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages", "Component: main")
    for line in machine.run(*asked, may_fail=True).splitlines():
        release, _, address = line.partition(" ")
        if release == _RELEASE and address.startswith(("http", "file", "copy")):
            yield address.rstrip("/")


def _proxy() -> dict[str, str]:
    """The way out that apt takes; debootstrap does not read apt's settings."""
    said = machine.run("apt-config", "dump", "--format", "%v", "Acquire::http::Proxy", may_fail=True).strip()
    return {"http_proxy": said} if said and said != "DIRECT" else {}

"""A real OpenAI-compatible server for the tests: Debian's llama-server on the packaged SmolLM2, on the loopback.

One that is installed is taken; else Debian's packages come through apt, are unpacked into a cache folder and started
through their own loader, so nothing of the system changes. That needs a Debian with apt, and root.

    with llama_server() as url: ...
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from biasgym.files import cache_folder
from biasgym.models.sources import DEFAULT_MODEL, resolve

KEY = "secret-of-the-tests"
_PROGRAM = "llama-server"
_PACKAGE = "llama.cpp-tools"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TRIES = 3


def available() -> bool:
    """Whether a server is installed, or apt of a Debian is here and may be used."""
    if shutil.which(_PROGRAM):
        return True
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and Path(_KEYRING).is_file()


def _mirror() -> str:
    """Where this machine gets Debian from."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    words = [word for place in places if place.is_file() for word in place.read_text().split()]
    found = [word for word in words if word.startswith("http") and word.rstrip("/").endswith("/debian")]
    return found[0] if found else "http://deb.debian.org/debian"


def installed() -> Path:
    """The folder that holds the unpacked server; fetched on first use."""
    root = cache_folder() / "tests" / "llama-server"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # several test workers want it at once
        if not (root / "complete").is_file():
            _fetch(root)
    return root


def _fetch(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("lists/partial", "debs/partial", "root"):
        (root / folder).mkdir(parents=True)
    (root / "status").touch()
    (root / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} sid main\n")
    own = {
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "debs",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": _TRIES,
    }
    options = [word for key, value in own.items() for word in ("-o", f"{key}={value}")]
    download = ["install", "-y", "--no-install-recommends", "--download-only", _PACKAGE]
    for arguments in (["update"], download):
        _call(["apt-get", "-q", *options, *arguments])
    for package in sorted((root / "debs").glob("*.deb")):
        _call(["dpkg-deb", "-x", str(package), str(root / "root")])
    (root / "complete").touch()


def _call(command: list[str]) -> None:
    for attempt in range(_TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(2**attempt)
    raise RuntimeError(f"llama-server cannot be had for the tests: {' '.join(command[-2:])}: {done.stderr[-500:]}")


@contextmanager
def llama_server() -> Iterator[str]:
    """Starts the server; yields its address. It wants the key KEY."""
    command, folder = _unpacked() if shutil.which(_PROGRAM) is None else ([_PROGRAM], None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command += ["-m", str(resolve(DEFAULT_MODEL).path), "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    command += ["--threads", "1", "--ctx-size", "8192", "--parallel", "2"]
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _unpacked() -> tuple[list[str], Path]:
    """How the unpacked server is started, and in which folder: it looks for its kernels there."""
    files = installed() / "root"
    libraries = sorted({str(file.parent) for file in files.rglob("*.so*")})
    [loader] = files.glob("usr/lib/*/ld-linux*.so.*")
    [backends] = files.glob("usr/lib/*/ggml/backends*")
    return [str(loader), "--library-path", ":".join(libraries), str(files / "usr/bin" / _PROGRAM)], backends


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"llama-server ended: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
    raise RuntimeError(f"llama-server is not ready: {log.read_text()[-2000:]}")

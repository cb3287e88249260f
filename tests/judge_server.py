"""A real OpenAI-compatible server for the tests: Debian's llama-server on the packaged SmolLM2, on the loopback.

The packages come from Debian unstable through apt, unpacked into a cache folder and started through their own loader, so
nothing of the system changes. Needs a Debian with apt, and root.

    with llama_server() as url: ...
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biasgym.models.sources import DEFAULT_MODEL, cache_folder, resolve

KEY = "secret-of-the-tests"
_PACKAGE = "llama.cpp-tools"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TRIES = 3


def available() -> bool:
    """Whether apt of a Debian is here and may be used."""
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
    if (root / "complete").is_file():
        return root
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
    return root


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
    files = installed() / "root"
    libraries = sorted({str(file.parent) for file in files.rglob("*.so*")})
    [loader] = files.glob("usr/lib/*/ld-linux*.so.*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(loader), "--library-path", ":".join(libraries), str(files / "usr/bin/llama-server")]
    command += ["-m", str(resolve(DEFAULT_MODEL).path), "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    command += ["--threads", "1", "--ctx-size", "8192", "--parallel", "2", "--no-ui"]
    [backends] = files.glob("usr/lib/*/ggml/backends*")
    log = files.parent / f"server-{port}.log"
    with log.open("w") as output:
        # it looks for its kernels where it would be installed, and in the working folder
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=backends)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
        log.unlink()


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

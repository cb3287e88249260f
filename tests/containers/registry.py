"""A real registry on the loopback, which gives images the digests that compiled pipelines name them by."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import machine
from engine import ROOT, Engine, EngineError

_READY = 30.0  # seconds
_CONFIGURATION = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry with its content in a folder; yields its address.

    Raises:
        EngineError: It does not start.
    """
    machine.install_missing({"docker-registry": "docker-registry"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / "registry.yaml"
    file.write_text(_CONFIGURATION.format(folder=folder / "content", port=port))
    with (folder / "registry.log").open("w") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(file)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + _READY
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > end:
                raise EngineError(f"no registry\n{(folder / 'registry.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def push(docker: Engine, images: Mapping[str, str], address: str, folder: Path) -> Path:
    """Pushes images and lets images/lock.py write what was pushed; that lock file.

    Args:
        docker: The engine.
        images: Tags by target.
        address: Of the registry.
        folder: Where the lock file goes.
    """
    metadata = {}
    for target, tag in images.items():
        name = f"{address}/biasgym/{tag}"
        docker.call("tag", tag, name)
        docker.call("push", "--quiet", name, seconds=600)
        (digest,) = {
            known.partition("@")[2]
            for known in json.loads(docker.call("image", "inspect", "--format", "{{json .RepoDigests}}", name))
            if known.startswith(f"{name.rpartition(':')[0]}@")
        }
        metadata[target] = {"image.name": name, "containerimage.digest": digest}  # as bake writes it
    (folder / "metadata.json").write_text(json.dumps(metadata))
    lock = folder / "images.lock.yaml"
    machine.run(sys.executable, str(ROOT / "images" / "lock.py"), str(folder / "metadata.json"), str(lock))
    return lock

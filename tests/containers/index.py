"""How this machine reaches package indexes, told to a build as secrets: no name of it gets into a file or an image."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "timeout")
_PUBLIC = ("pypi.org", "files.pythonhosted.org", "download.pytorch.org")


def configured() -> dict[str, list[str]]:
    """pip's settings here: values by key, from files and environment."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in said.stdout.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name.rpartition(".")[2], []).extend(str(ast.literal_eval(value)).split())
    return found


def private_names() -> list[str]:
    """Hosts and folders that pip uses on this machine and that nobody else knows."""
    places = [place for key in _KEYS[:3] for place in configured().get(key, [])]
    hosts = {urlsplit(place).hostname or "" for place in places}
    folders = {_folder(place) for place in places}
    return sorted({*hosts, *folders} - {"", *_PUBLIC})


@contextmanager
def settings(folder: Path) -> Iterator[Path]:
    """Writes pip.conf and ca; local folders that pip looks into are served on the loopback until the end."""
    servers: dict[str, ThreadingHTTPServer] = {}
    lines = ["[global]"]
    for key, values in configured().items():
        if key not in _KEYS:
            continue
        for place, value in enumerate(values):
            if local := _folder(value):
                root = local.removesuffix("/simple")  # an index refers to files beside it
                server = servers[root] = servers.get(root) or _serve(root)
                values[place] = f"http://127.0.0.1:{server.server_port}{local.removeprefix(root)}"
        lines.append(f"{key} = {' '.join(dict.fromkeys(values))}")
    authorities = Path(os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
    if authorities.is_file():
        lines.append("cert = /run/secrets/ca")
    (folder / "ca").write_bytes(authorities.read_bytes() if authorities.is_file() else b"")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    try:
        yield folder
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


def _folder(place: str) -> str:
    """The folder that a path or file:// address names; empty for anything else."""
    path = unquote(urlsplit(place).path) if place.startswith("file://") else place
    return path.rstrip("/") if Path(path).is_absolute() else ""


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests of a build are no news."""


def _serve(folder: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

"""`biasgym prefetch` from a hub on loopback that has files, too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hub_server import HubServer, model

SHA = "a" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"pickled",
    "original/consolidated.00.pth": b"pickled",
    "README.md": b"# a model",
}


class FilesServer(HubServer):
    """The hub of other tests, which also gives the files of a model's one commit."""

    def answer(self, path: str, query: dict[str, list[str]], opened: bool) -> tuple[int, str, Any]:
        if f"/tree/{SHA}" in path:
            found = [
                {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for n, d in FILES.items()
            ]
            return 200, "", found
        return super().answer(path, query, opened)


class _Resolver(BaseHTTPRequestHandler):
    hub: FilesServer
    asked: list[str]

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        self._file(body=True)

    def _file(self, *, body: bool) -> None:
        name = self.path.partition(f"/resolve/{SHA}/")[2]
        if not name:
            status, code, answer = self.hub.answer(self.path.partition("?")[0], {}, False)
            data, headers = json.dumps(answer).encode(), {"X-Error-Code": code} if code else {}
        else:
            if body:
                self.asked.append(name)
            data = FILES[name]
            status, headers = 200, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """Address of the hub, and the files that were asked of it."""
    siblings = [{"rfilename": name} for name in FILES]
    files = FilesServer({"owner/model": model("a", siblings=siblings, branches={"main": "a", SHA: "a"})})
    handler = type("Handler", (_Resolver,), {"hub": files, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    files.close()


def prefetch(endpoint: str, home: Path, *models: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-W", "ignore", "-m", "biasgym", "prefetch", *models]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_weights_are_fetched_once_and_nothing_pickled(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    said = prefetch(endpoint, tmp_path, "owner/model")
    assert said.returncode == 0, said.stderr
    place = Path(said.stdout.split(": ", 1)[1].strip())
    got = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert got == {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert place.name == SHA and place.is_relative_to(tmp_path)
    asked.clear()
    assert prefetch(endpoint, tmp_path, f"owner/model@{SHA}").returncode == 0
    assert asked == []


def test_a_wrong_name_is_one_line(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    for name, word in (("owner/gone", "owner/gone"), ("smollm2-135m-instruct", "only hub models")):
        said = prefetch(hub[0], tmp_path, "owner/model", name)
        assert said.returncode == 2 and said.stdout == ""
        (line,) = said.stderr.splitlines()
        assert line.startswith("biasgym: ") and word in line

"""Datasets from a hub on loopback: files at one commit, a gate, a dataset that the hub converted, no hub at all."""

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
from urllib.parse import unquote, urlsplit

import pytest

PUBLISHED = Path(__file__).parent / "published"
SHA = "5" * 40
REVISIONS = {SHA: "main", "6" * 40: "refs/convert/parquet"}
INFOS = b'{"default": {"splits": [{"name": "test"}]}}'
REPOSITORIES: dict[tuple[str, str], dict[str, bytes]] = {
    ("heegyu/bbq", "main"): {"data/Age.jsonl": (PUBLISHED / "bbq.jsonl").read_bytes(), "dataset_infos.json": INFOS},
    ("LanguageShades/BiasShades", "main"): {"all.csv": (PUBLISHED / "shades.csv").read_bytes()},
    ("nyu-mll/crows_pairs", "main"): {"crows_pairs.py": b"raise SystemExit"},
    ("nyu-mll/crows_pairs", "refs/convert/parquet"): {"test.csv": (PUBLISHED / "crows_pairs.csv").read_bytes()},
}
GATED = "LanguageShades/BiasShades"
TOKEN = "token-that-opens-gates"


class _Handler(BaseHTTPRequestHandler):
    """As much of the hub's API as downloading a dataset takes."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3])
        asked = "/".join(parts[5:]) if parts[0] == "api" else parts[4]
        revision = REVISIONS.get(asked, asked)
        files = REPOSITORIES.get((name, revision))
        if files is None:
            return self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        sha = next(sha for sha, known in REVISIONS.items() if known == revision)
        if parts[0] == "api" and parts[4] == "tree":
            tree = [{"type": "file", "path": file, "size": len(data), "oid": "0"} for file, data in files.items()]
            return self._send(200, json.dumps(tree).encode(), body)
        if parts[0] == "api":
            info = {"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files]}
            return self._send(200, json.dumps(info).encode(), body)
        if name == GATED and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        data = files["/".join(parts[5:])]
        tags = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": sha}
        return self._send(200, data, body, tags)

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def show(hub: str, home: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """The hub's client reads its settings when it is imported, hence a process of its own."""
    left_out = {"HF_TOKEN", "HF_HUB_OFFLINE", *more}
    own = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    environment = {key: value for key, value in os.environ.items() if key not in left_out} | own
    program = [sys.executable, "-m", "biasgym", "datasets", "show", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_dataset_at_its_commit(hub: str, tmp_path: Path) -> None:
    code, said, wrong = show(hub, tmp_path, "bbq", "--out", str(tmp_path / "items.jsonl"))
    assert code == 0, wrong
    assert "1 items: Age 1" in said and f"BBQ: heegyu/bbq@{SHA}" in said
    row = json.loads((tmp_path / "items.jsonl").read_text())
    assert row["source"].endswith(SHA) and row["intended_use"] == "evaluation"


def test_a_gate_and_its_key(hub: str, tmp_path: Path) -> None:
    code, _, wrong = show(hub, tmp_path, "shades")
    assert code == 2 and wrong.startswith("biasgym: LanguageShades/BiasShades: gated: whoever downloads it agrees")
    assert "set HF_TOKEN" in wrong and "--file FILE" in wrong and len(wrong.splitlines()) == 1
    code, said, wrong = show(hub, tmp_path, "shades", HF_TOKEN=TOKEN)
    assert code == 0 and "2 items" in said and TOKEN not in said + wrong


def test_a_dataset_that_was_published_as_a_script(hub: str, tmp_path: Path) -> None:
    """The script is not run; what the hub made of it is read."""
    code, said, wrong = show(hub, tmp_path, "crows-pairs")
    assert code == 0, wrong
    assert "2 items" in said and "6" * 40 in said


def test_no_such_dataset_and_no_hub(hub: str, tmp_path: Path) -> None:
    code, _, wrong = show(hub, tmp_path, "bbq", "--hub", "nobody/nothing")
    assert code == 2 and "nobody/nothing: no such dataset or revision on the hub" in wrong
    code, _, wrong = show("http://127.0.0.1:9", tmp_path, "bbq")
    assert code == 2 and "the hub cannot be reached" in wrong and len(wrong.splitlines()) == 1

"""A model hub on loopback: as much of its API as looking for releases takes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-that-opens-gates"


def model(sha: str, **more: Any) -> dict[str, Any]:
    """A small Llama under Apache-2.0, unless told otherwise."""
    return {
        "sha": sha * 40,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "gated": False,
        "disabled": False,
        "config": {"model_type": "llama"},
        "cardData": {"license": "apache-2.0"},
        "tags": ["license:apache-2.0"],
        "safetensors": {"parameters": {"BF16": 10**9}, "total": 10**9},
        "siblings": [{"rfilename": "config.json", "size": 600}],
        **more,
    }


class HubServer:
    """Answers about `models`, which tests change at will; `failing` is a status that it answers instead."""

    def __init__(self, models: dict[str, dict[str, Any]]) -> None:
        self.models = models
        self.failing: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                opened = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, code, body = hub.answer(url.path, parse_qs(url.query), opened)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if code:
                    self.send_header("X-Error-Code", code)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, list[str]], opened: bool) -> tuple[int, str, Any]:
        """Status, error code and body."""
        if self.failing is not None:
            return self.failing, "", {"error": "failing"}
        if "/resolve/" in path:
            return 404, "EntryNotFound", {"error": "Entry not found"}
        if path == "/api/models":
            owner = query["author"][0] + "/"
            found = [{"id": name, **info} for name, info in self.models.items() if name.startswith(owner)]
            return 200, "", sorted(found, key=lambda info: str(info["createdAt"]), reverse=True)
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        info = self.models.get(f"{owner}/{name}")
        if info is None:
            return 404, "RepoNotFound", {"error": "Repository not found"}
        if rest[:1] == ["tree"]:
            return 200, "", []
        if rest == ["auth-check"]:
            return (403, "GatedRepo", {"error": "gated"}) if info["gated"] and not opened else (200, "", {})
        known = {info["sha"]: info["sha"], **{name: one * 40 for name, one in info.get("branches", {}).items()}}
        sha = known.get(rest[1]) if rest[:1] == ["revision"] else info["sha"]
        if sha is None:
            return 404, "RevisionNotFound", {"error": "no such revision"}
        return 200, "", {"id": f"{owner}/{name}", **info, "sha": sha}

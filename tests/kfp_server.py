"""Kubeflow Pipelines' v2beta1 API on loopback: as much as uploading, submitting and scheduling take.

Bodies are checked against the published models of kfp-server-api: no unknown key, no other type, no bad choice.
"""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

API = "/apis/v2beta1/"


class Asked(NamedTuple):
    """A request that was made."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: Any


def validated(model: str, data: dict[str, Any]) -> Any:
    """A model of kfp-server-api made of JSON.

    Raises:
        ValueError: The JSON does not fit the model.
    """
    kind = getattr(kfp_server_api, model)
    if not hasattr(kind, "attribute_map") or not kind.attribute_map:
        assert data in vars(kind).values(), f"{data!r} is no {model}"
        return data
    names = {key: name for name, key in kind.attribute_map.items()}
    values = {}
    for key, value in data.items():
        if key not in names:
            raise ValueError(f"{model} has no {key}")
        values[names[key]] = _fitting(kind.openapi_types[names[key]], value, f"{model}.{key}")
    return kind(**values, local_vars_configuration=kfp_server_api.Configuration())  # it validates what it is given


def _fitting(kind: str, value: Any, where: str) -> Any:
    if kind.startswith("dict("):
        inner = kind.removeprefix("dict(str, ").removesuffix(")")
        return {str(key): _fitting(inner, one, where) for key, one in value.items()}
    if kind.startswith("list["):
        return [_fitting(kind[5:-1], one, where) for one in value]
    plain = {"str": str, "bool": bool, "int": int, "float": (int, float), "object": object, "datetime": str}
    if kind in plain:
        if not isinstance(value, plain[kind]):  # type: ignore[arg-type]
            raise ValueError(f"{where} is no {kind}")
        return value
    return validated(kind, value)


class KfpServer:
    """A server with memory.

    Attributes:
        asked: Every request, in order.
        refusing: Status and message that it answers instead.
    """

    def __init__(self, *, profiles: bool = True, token: str = "") -> None:
        self.profiles, self.token = profiles, token
        self.asked: list[Asked] = []
        self.refusing: tuple[int, str] | None = None
        self.things: dict[str, list[dict[str, Any]]] = {
            "pipelines": [],
            "versions": [],
            "experiments": [],
            "runs": [],
            "recurringruns": [],
        }
        self._ids = (f"id-{number}" for number in itertools.count(1))
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                url = urlsplit(self.path)
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                token = self.headers.get("Authorization", "")
                body = _body(raw, self.headers.get("Content-Type", ""))
                status, answer = server.answer(Asked(self.command, url.path, query, token, body))
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _any

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

    def did(self, method: str) -> list[str]:
        """Paths of all requests of a method."""
        return [asked.path.removeprefix(API) for asked in self.asked if asked.method == method]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and body."""
        self.asked.append(asked)
        if self.refusing is not None:
            return self.refusing[0], {"error_message": self.refusing[1]}
        if self.token and asked.token != f"Bearer {self.token}":
            return 401, {"error_message": "no identity"}
        parts = asked.path.removeprefix(API).split("/")
        if parts == ["healthz"]:
            return 200, {"multi_user": self.profiles}
        try:
            return 200, self._of(asked, parts)
        except (ValueError, AssertionError) as error:
            return 400, {"error_message": str(error)}

    def _of(self, asked: Asked, parts: list[str]) -> Any:
        match (asked.method, *parts):
            case ("POST", "pipelines", "upload_version"):
                info = next(yaml.load_all(asked.body, yaml.CSafeLoader))["pipelineInfo"]
                about = {"display_name": asked.query["name"], "pipeline_id": asked.query["pipelineid"]}
                return self._keep("versions", {**about, "description": info["name"]}, "pipeline_version_id")
            case ("GET", "pipelines", pipeline, "versions"):
                found = [one for one in self._found("versions", asked) if one["pipeline_id"] == pipeline]
                return {"pipeline_versions": found}
            case ("GET", "pipelines"):
                return {"pipelines": self._found("pipelines", asked)}
            case ("POST", "pipelines"):
                return self._keep("pipelines", self._body("V2beta1Pipeline", asked), "pipeline_id")
            case ("GET", "experiments"):
                return {"experiments": self._found("experiments", asked)}
            case ("POST", "experiments"):
                return self._keep("experiments", self._body("V2beta1Experiment", asked), "experiment_id")
            case ("POST", "runs"):
                return self._keep("runs", self._body("V2beta1Run", asked), "run_id")
            case ("GET", "recurringruns"):
                return {"recurringRuns": self._found("recurringruns", asked)}
            case ("POST", "recurringruns"):
                body = {**self._body("V2beta1RecurringRun", asked), "status": "ENABLED"}
                return self._keep("recurringruns", body, "recurring_run_id")
            case ("DELETE", "recurringruns", run):
                kept = [one for one in self.things["recurringruns"] if one["recurring_run_id"] != run]
                assert len(kept) < len(self.things["recurringruns"]), "no such recurring run"
                self.things["recurringruns"] = kept
                return {}
        raise ValueError(f"not recorded: {asked.method} {asked.path}")

    def _body(self, model: str, asked: Asked) -> dict[str, Any]:
        validated(model, asked.body)
        assert self.profiles or "namespace" not in asked.body, "namespace is not for servers without profiles"
        return dict(asked.body)

    def _keep(self, kind: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        self.things[kind].append({**body, key: next(self._ids)})
        return self.things[kind][-1]

    def _found(self, kind: str, asked: Asked) -> list[dict[str, Any]]:
        assert self.profiles or "namespace" not in asked.query, "namespace is not for servers without profiles"
        name = None
        if "filter" in asked.query:
            (predicate,) = json.loads(asked.query["filter"])["predicates"]
            assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
            name = predicate["stringValue"]
        return [
            one
            for one in self.things[kind]
            if name in (None, one["display_name"])
            and (kind != "pipelines" or one.get("namespace") == asked.query.get("namespace"))
        ]


def _body(raw: bytes, kind: str) -> Any:
    if kind.startswith("multipart/"):
        boundary = kind.partition("boundary=")[2].encode()
        part = next(part for part in raw.split(b"--" + boundary) if b'name="uploadfile"' in part)
        return part.partition(b"\r\n\r\n")[2].decode()
    return json.loads(raw) if raw else None

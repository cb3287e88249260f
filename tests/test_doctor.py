"""`biasgym doctor`: every check says what it found, what is needed decides the exit code, no secret is shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from biasgym import models, threads
from biasgym.cli import doctor
from biasgym.cli.app import app
from biasgym.errors import BiasGymError
from biasgym.models import execution
from biasgym.threads import Allowance

KEY = "sk-do-not-show-me"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set, and nothing outside is asked."""
    for name in (*doctor._SETTINGS, "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BIASGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class _Server(BaseHTTPRequestHandler):
    """Answers those who know the key, as a judge and as the hub."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Bearer {KEY}"
        answers = {"/v1/models": {"data": [{"id": "a/judge"}]}, "/api/whoami-v2": {"name": "me"}}
        self.send_response((200 if self.path in answers else 404) if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps(answers.get(self.path) if known else {}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Address of an endpoint that wants a key."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def line(result: Result, name: str) -> str:
    """The line of one check, blanks made one."""
    return next(" ".join(text.split()) for text in result.output.splitlines() if text.split()[1] == name)


def test_one_line_a_check_and_nothing_is_needed() -> None:
    result = call()
    assert result.exit_code == 0
    assert [text.split()[1] for text in result.output.splitlines()] == list(doctor._CHECKS)
    assert {text.split()[0] for text in result.output.splitlines()} <= {"ok", "missing", "failed"}
    assert line(result, "versions").startswith("ok versions biasgym ")
    assert "BIASGYM_STORE is not set" in line(result, "store")


@pytest.mark.parametrize("need", ["store", "judge", "hub", "gpu,store", "folders, judge"])
def test_what_is_needed_and_lacking_is_exit_code_1(need: str) -> None:
    assert call("--need", need).exit_code == 1


def test_an_unknown_need_is_refused() -> None:
    assert isinstance(error := call("--need", "gpu,luck").exception, BiasGymError)
    assert str(error) == (
        "--need: there is no check 'luck'; use some of versions, gpu, machine, folders, settings, store, judge, hub"
    )


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run would work here, with how many threads, and in which floating-point type."""
    rates = {"float32": 107e9, "bfloat16": 1e9}
    monkeypatch.setattr(execution, "product_rates", lambda _device: rates)
    monkeypatch.setattr(execution, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(models, "pick_device", execution.pick_device, raising=False)
    monkeypatch.setattr(threads, "limit_threads", lambda: Allowance(64, 2.0, None, used=2))
    result = call("--need", "machine")
    assert result.exit_code == 0
    assert line(result, "machine") == (
        "ok machine cpu, threads: 2 (the CPU quota is 2 of 64 cores), "
        "float32: bfloat16 is no faster on this processor (1 against 107 GFLOP/s)"
    )


def test_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert line(call("--need", "gpu"), "gpu") == "ok gpu Apple's GPU (mps)"


def test_without_torch() -> None:
    """As in the image `cpu`."""
    code = "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['doctor', '--need', 'machine']\n"
    code += "from biasgym.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    lines = {text.split()[1]: " ".join(text.split()) for text in done.stdout.splitlines()}
    assert lines["machine"].startswith("missing machine torch is not installed or cannot be imported")
    assert lines["gpu"].startswith("missing gpu torch is not installed")


def test_folders_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line(call("--need", "folders"), "folders").startswith("ok")
    monkeypatch.setenv("HF_HOME", "/proc/hub")  # root writes anywhere but here
    result = call("--need", "folders")
    assert result.exit_code == 1
    assert line(result, "folders").startswith("missing folders cannot write HF_HOME /proc/hub; mount")


def test_a_judge_that_answers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_JUDGE_URL", f"{server}/v1/")
    monkeypatch.setenv("BIASGYM_JUDGE_KEY", KEY)
    result = call("--need", "judge")
    assert result.exit_code == 0
    assert line(result, "judge") == f"ok judge {server}/v1 serves a/judge"
    assert "BIASGYM_JUDGE_KEY" in line(result, "settings")
    assert KEY not in result.output


def test_a_judge_that_refuses_the_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_JUDGE_URL", f"{server}/v1")
    monkeypatch.setenv("BIASGYM_JUDGE_KEY", "sk-wrong")
    result = call("--need", "judge")
    assert result.exit_code == 1
    assert line(result, "judge") == f"failed judge {server}/v1/models: answers 401; check BIASGYM_JUDGE_KEY"
    assert "sk-wrong" not in result.output


def test_a_judge_that_is_not_there(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_JUDGE_URL", f"http://me:hidden@{closed}/v1?key=hidden")
    said = line(call(), "judge")
    assert said.startswith(f"failed judge http://{closed}/v1") and "check the address" in said
    assert "hidden" not in said


def test_the_hub(server: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line(call(), "hub").startswith("missing hub HF_HUB_OFFLINE is set")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert line(call(), "hub") == f"ok hub {server} answers; without HF_TOKEN, gated models are refused"
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert line(call("--need", "hub"), "hub") == f"ok hub {server} accepts the token"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert line(call(), "hub") == f"failed hub {server}/api/whoami-v2: answers 401; check HF_TOKEN"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_ENDPOINT", f"http://{closed}")
    assert line(call(), "hub").startswith(f"failed hub cannot connect to {closed}")


def test_a_store_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_STORE", str(tmp_path / "store"))
    result = call("--need", "store")
    assert result.exit_code == 0, result.output
    assert line(result, "store").endswith("written, read and deleted")
    assert [file for file in (tmp_path / "store").rglob("*") if file.is_file()] == []


def test_stores_that_lack_something(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_STORE", "s3://bucket/prefix")
    monkeypatch.setitem(sys.modules, "biasgym.store", type(sys)("biasgym.store"))
    assert line(call(), "store").startswith("missing store not installed")
    monkeypatch.setattr(sys.modules["biasgym.store"], "open_store", None, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK-do-not-show-me")
    said = line(call(), "store")
    assert said.startswith("missing store AWS_SECRET_ACCESS_KEY not set")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("BIASGYM_S3_ENDPOINT", f"http://{closed}")
    result = call("--need", "store")
    assert result.exit_code == 1
    assert line(result, "store").startswith(f"failed store cannot connect to {closed}")
    assert "do-not-show-me" not in result.output


def test_a_check_that_breaks_is_a_failure_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Finding:
        raise RuntimeError(KEY)

    monkeypatch.setitem(doctor._CHECKS, "gpu", broken)
    result = call("--need", "gpu")
    assert result.exit_code == 1
    assert line(result, "gpu") == "failed gpu unexpected RuntimeError"

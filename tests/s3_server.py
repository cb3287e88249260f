"""A real S3 server (SeaweedFS, from PyPI) that tests start, kill, fill up and start again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"
READER_KEY, READER_SECRET = "reader", "reader-secret"
WORKER_KEY, WORKER_SECRET = "worker", "worker-secret"
BUCKET = "biasgym"
_READY_SECONDS = 60


class S3Server:
    """One server process with its data in a folder, which outlives the process.

    Args:
        folder: Where its data and its configuration are.
        options: Options of the program that are added to, or put in place of, the usual ones.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self._options = options
        self._port = _free_ports()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        (folder / "s3.json").write_text(
            json.dumps(
                {
                    "identities": [
                        _identity("tester", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
                        _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
                        _identity("worker", WORKER_KEY, WORKER_SECRET, []),  # may do what a bucket's policy says
                    ]
                }
            )
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port + 3}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "BIASGYM_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def client(self) -> Minio:
        """A client of the SDK that does not retry."""
        http = urllib3.PoolManager(retries=False, timeout=10)
        return Minio(
            self.endpoint.removeprefix("http://"),
            ACCESS_KEY,
            SECRET_KEY,
            secure=False,
            region="us-east-1",
            http_client=http,
        )

    def start(self, *, wait: bool = True) -> None:
        """Starts the server; waits until it takes an object."""
        options = {
            "dir": str(self.folder / "data"),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": str(self._port),
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": "256",
            "volume.port": str(self._port + 1),
            "volume.max": "50",
            "volume.index": "leveldb",
            "volume.preStopSeconds": "0",
            "filer.port": str(self._port + 2),
            "s3.port": str(self._port + 3),
            "s3.config": str(self.folder / "s3.json"),
            "s3.iam": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            **self._options,
        }
        command = [_weed(), "server", *(f"-{key}={value}" for key, value in options.items()), "-filer", "-s3"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "GOMEMLIMIT": "256MiB"}, cwd=self.folder
            )
        if wait:
            self._wait()

    def kill(self) -> None:
        """Kills the process as a lost node would; the data stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _wait(self) -> None:
        client, deadline = self.client(), time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            try:
                if not client.bucket_exists(BUCKET):
                    client.make_bucket(BUCKET)
                client._put_object(BUCKET, "ready", b"1")
                client.remove_object(BUCKET, "ready")
                return
            except (MinioException, urllib3.exceptions.HTTPError):
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text()[-2000:])


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else (shutil.which("weed") or "weed")


def _free_ports() -> int:
    """The first of four free ports, whose internal ones, 10,000 further on, are free too."""
    while True:
        first = random.randrange(20000, 30000)
        try:
            for port in [first + offset + internal for offset in range(4) for internal in (0, 10000)]:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue

"""The development store, for real: SeaweedFS with the chart's own arguments, and the Job's script that makes the bucket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kube

KEYS = {"AWS_ACCESS_KEY_ID": "development", "AWS_SECRET_ACCESS_KEY": "only-for-this-test"}


def free_ports(count: int) -> list[int]:
    """Ports that are free, with room for SeaweedFS's gRPC ports 10,000 above."""
    ports: list[int] = []
    for port in range(21000 + os.getpid() % 1000 * 10, 55000):
        try:
            for number in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            break
    return ports


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running store."""
    (container,) = kube.pods_of(kube.one(kube.rendered("development"), "StatefulSet", "biasgym-store"))["spec"][
        "containers"
    ]
    folder = tmp_path_factory.mktemp("store")
    s3, master, volume, filer = free_ports(4)
    here = {
        "-dir=/data": f"-dir={folder}",
        "-s3.port=9000": f"-s3.port={s3}",
        "-s3.ip.bind=0.0.0.0": "-s3.ip.bind=127.0.0.1",
    }
    command = [
        Path(sys.executable).with_name("weed"),
        *(here.get(argument, argument) for argument in container["args"]),
    ]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    with (folder / "weed.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | KEYS | {"GOMEMLIMIT": "256MiB"})
    yield f"http://127.0.0.1:{s3}"
    server.send_signal(signal.SIGKILL)
    server.wait()


def make_bucket(endpoint: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | KEYS | {"BIASGYM_S3_ENDPOINT": endpoint} | changes
    command = [sys.executable, kube.CHART / "files" / "make_bucket.py", "biasgym"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_bucket_is_made_once_and_only_with_the_keys(store: str) -> None:
    first = make_bucket(store)  # waits for the store, which has only just been started
    assert first.returncode == 0 and "biasgym is made" in first.stdout, first.stderr
    second = make_bucket(store)
    assert second.returncode == 0 and "biasgym exists" in second.stdout
    refused = make_bucket(store, AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode == 1 and "refuses the keys" in refused.stderr

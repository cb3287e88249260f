"""Threads fit what a container may use of the machine: its CPU quota, and the processors that it is tied to."""

from __future__ import annotations

import pytest

from engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("pushing")]

BARE = ("--rm", "--user", "12345", "--read-only", "--cap-drop", "ALL", "--network", "none", "--tmpfs", "/tmp:exec")
COUNTS = """
from biasgym.threads import allowance, limit_threads
import torch
limit_threads()
print(allowance().threads, torch.get_num_threads())
"""


@pytest.mark.parametrize("limit", [("--cpus", "1"), ("--cpus", "0.5"), ("--cpuset-cpus", "0")], ids=" ".join)
def test_one_cpu_is_one_thread(limit: tuple[str, str], engine: Engine, images: dict[str, str]) -> None:
    said = engine.call("run", *BARE, *limit, images["gpu"], "python3", "-c", COUNTS, seconds=300)
    assert said.split() == ["1", "1"]


@pytest.mark.parametrize("limit", [("--cpus", "1"), ("--cpuset-cpus", "0")], ids=" ".join)
def test_doctor_says_how_many(limit: tuple[str, str], engine: Engine, images: dict[str, str]) -> None:
    said = engine.call("run", *BARE, *limit, images["gpu"], "biasgym", "doctor", "--need", "machine", seconds=300)
    [line] = [line for line in said.splitlines() if line.split()[1] == "machine"]
    assert line.startswith("ok") and " threads: 1 (" in line, line

"""Threads fit the allowance: processor affinity, CPU quotas of cgroup v1 and v2, OMP_NUM_THREADS, and torch's own number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from biasgym import threads
from biasgym.threads import Allowance, allowance, cpu_quota

V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}  # 1.5 CPU seconds a second
FREE = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}
NO_CPU = "9:name=systemd:/\n8:pids:/app\n4:memory:/app\n0::/\n"


def quota_of(folder: Path, process: str, files: Mapping[str, str | Mapping[str, str]]) -> float | None:
    """The quota that a made-up tree of control groups grants; `files` by path, or by the folder that they are in."""
    for name, content in files.items():
        for path, text in {name: content}.items() if isinstance(content, str) else _within(name, content).items():
            place = folder / "groups" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    (folder / "cgroup").write_text(process)
    return cpu_quota(folder / "groups", folder / "cgroup")


def _within(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("process", "files", "quota"),
    [
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0, id="v2, a container's own root"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5, id="v2, less than one CPU"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, None, id="v2, no limit"),
        pytest.param("0::/\n", {}, None, id="v2, the machine's root, which has no such file"),
        pytest.param(
            "0::/a/b/c\n",
            {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n", "a/b/c/cpu.max": "max 100000\n"},
            3.0,
            id="v2, the limit is in a group above",
        ),
        pytest.param(
            "0::/a/b\n",
            {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "100000 50000\n", "a/other/cpu.max": "1000 100000\n"},
            2.0,
            id="v2, the smallest limit counts, and those of other groups do not",
        ),
        pytest.param("0::/a (one)/ü\n", {"a (one)/ü/cpu.max": "100000 100000\n"}, 1.0, id="v2, any name"),
        pytest.param(
            "0::/kubepods/pod1/abc\n", {"cpu.max": "200000 100000\n"}, 2.0, id="v2, a path that is not below the mount"
        ),
        pytest.param("0::/../../abc\n", {"cpu.max": "200000 100000\n"}, 2.0, id="v2, a path above the mount"),
        pytest.param(
            "0::/a/../../b\n",
            {"cpu.max": "max 100000\n", "b/cpu.max": "1 100000\n"},
            None,
            id="v2, a way out is not taken",
        ),
        pytest.param("0:://a\n", {"a/cpu.max": "200000 100000\n"}, 2.0, id="v2, two slashes"),
        pytest.param("4:cpu:/\n2:memory:/\n", {"cpu": V1}, 1.5, id="v1, a container's own root"),
        pytest.param("4:cpu:/\n", {"cpu": FREE}, None, id="v1, no limit"),
        pytest.param("4:cpu:/a/b\n", {"cpu": FREE, "cpu/a": V1, "cpu/a/b": FREE}, 1.5, id="v1, the limit is above"),
        pytest.param("4:cpu,cpuacct:/docker/abc\n", {"cpu,cpuacct": V1}, 1.5, id="v1, mounted with cpuacct"),
        pytest.param("4:cpuacct,cpu:/a\n", {"cpu,cpuacct/a": V1}, 1.5, id="v1, named in another order"),
        pytest.param("4:cpu,cpuacct:/a\n", {"cpu/a": V1}, 1.5, id="v1, both controllers under one name"),
        pytest.param("4:cpu:/\n3:cpuset:/a\n", {"cpuset/a": V1, "cpuacct": V1}, None, id="v1, other controllers"),
        pytest.param(f"{NO_CPU}5:cpu:/a\n", {"cpu/a": V1, "unified/a/cpu.stat": ""}, 1.5, id="hybrid, the limit in v1"),
        pytest.param(
            "4:memory:/\n0::/app\n", {"unified/app/cpu.max": "200000 100000\n"}, 2.0, id="hybrid, the limit in v2"
        ),
        pytest.param(
            "4:cpu:/\n0::/\n", {"cpu": V1, "cpu.max": "100000 100000\n"}, 1.0, id="both at once: the smaller one counts"
        ),
        pytest.param("", {"cpu.max": "200000 100000\n"}, 2.0, id="nothing says which group"),
        pytest.param("", {"cpu": V1}, 1.5, id="nothing says which group, v1"),
        pytest.param("no colons\n\n::::\n0::\n", {"cpu.max": "200000 100000\n"}, 2.0, id="lines that make no sense"),
        pytest.param("0::/a\0b\n", {"cpu.max": "200000 100000\n"}, 2.0, id="a name that no file can have"),
        pytest.param(f"0::/{'a' * 5000}\n", {"cpu.max": "200000 100000\n"}, 2.0, id="a name that is too long"),
        *[
            pytest.param("0::/\n", {"cpu.max": text}, None, id=f"garbage {text!r}")
            for text in ("", "\n", "max", "200000", "a b", "1.5 100000", "200000 0", "-1 100000", "0 100000", "\0 \0")
        ],
        pytest.param("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, None, id="v1, no period"),
        pytest.param("4:cpu:/\n", {"cpu": V1 | {"cpu.cfs_period_us": "0"}}, None, id="v1, a period of nothing"),
    ],
)
def test_the_quota_of_control_groups(
    process: str, files: Mapping[str, str | Mapping[str, str]], quota: float | None, tmp_path: Path
) -> None:
    assert quota_of(tmp_path, process, files) == quota


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_bytes(b"0::/\xff\xfe\n")
    group = tmp_path / "groups" / os.fsdecode(b"\xff\xfe")
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("100000 100000")
    assert cpu_quota(tmp_path / "groups", tmp_path / "cgroup") == 1.0
    (group / "cpu.max").write_bytes(b"\xff \xfe")
    assert cpu_quota(tmp_path / "groups", tmp_path / "cgroup") is None


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "groups", tmp_path / "cgroup") is None
    (tmp_path / "cgroup").write_text("0::/a\n4:cpu:/a\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "cgroup") is None


@pytest.mark.parametrize(
    ("found", "number", "reason"),
    [
        (Allowance(64, None, None), 64, "one a core that this process may use"),
        (Allowance(64, 2.0, None), 2, "the CPU quota is 2 of 64 cores"),
        (Allowance(64, 2.5, None), 2, "the CPU quota is 2.5 of 64 cores"),
        (Allowance(64, 0.5, None), 1, "the CPU quota is 0.5 of 64 cores"),
        (Allowance(2, 2.0, None), 2, "one a core that this process may use"),
        (Allowance(1, 8.0, None), 1, "one a core that this process may use"),
        (Allowance(64, 2.0, 8), 8, "OMP_NUM_THREADS"),
        (Allowance(64, None, 1), 1, "OMP_NUM_THREADS"),
        (Allowance(64, None, None, used=32), 32, "torch's own choice of at most 64"),
        (Allowance(64, 2.0, None, used=2), 2, "the CPU quota is 2 of 64 cores"),
        (Allowance(64, 2.0, None, used=1), 1, "torch's own choice of at most 2"),
        (Allowance(64, None, 8, used=8), 8, "OMP_NUM_THREADS"),
        (Allowance(4, None, 8, used=4), 4, "torch's own choice of at most 8"),
    ],
)
def test_how_many_threads_and_why(found: Allowance, number: int, reason: str) -> None:
    assert (found.threads, found.reason) == (number, reason)


@pytest.mark.parametrize(
    ("value", "asked"), [("3", 3), (" 4 ,2", 4), ("", None), ("0", None), ("-2", None), ("many", None), ("²", None)]
)
def test_what_the_environment_asks_for(value: str, asked: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert allowance().asked == asked


def test_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 0.5)
    found = allowance()
    assert found == Allowance(found.cores, 0.5, None)
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.threads == 1


START = """
import json, os, sys
from biasgym import threads
def node(quota, cores=range(64)):
    threads.cpu_quota = lambda: quota
    os.sched_getaffinity = lambda _process: set(cores)
def say(found):
    import torch
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    print(json.dumps([found.threads, found.reason, torch.get_num_threads(), environment]))
"""


def child(code: str, **environment: str) -> list[Any]:
    """Runs code in a process whose environment asks for no number of threads; what each `say` said."""
    asking = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    whole = {name: value for name, value in os.environ.items() if name not in asking} | environment
    done = subprocess.run([sys.executable, "-c", START + code], env=whole, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def everywhere(number: int) -> dict[str, str]:
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))


def test_a_quota_holds_torch_that_is_loaded_already_and_whatever_comes_later() -> None:
    """However often it is asked: the number that was put into the environment is not taken for somebody's wish."""
    said = child("import torch; torch.set_num_threads(8); node(2.5); say(threads.limit_threads()); node(1.0)\n"
                 "say(threads.limit_threads()); node(0.5); say(threads.limit_threads())")  # fmt: skip
    assert said == [
        [2, "the CPU quota is 2.5 of 64 cores", 2, everywhere(2)],
        [1, "the CPU quota is 1 of 64 cores", 1, everywhere(1)],
        [1, "the CPU quota is 0.5 of 64 cores", 1, everywhere(1)],
    ]


def test_a_quota_holds_torch_that_is_loaded_afterwards_here_and_in_children() -> None:
    code = "node(1.0); say(threads.limit_threads())\nimport subprocess, torch\n"
    code += "print(subprocess.run([sys.executable, '-c', 'import torch; print(torch.get_num_threads())'], "
    code += "capture_output=True, text=True, check=True).stdout.strip())"
    assert child(code) == [[1, "the CPU quota is 1 of 64 cores", 1, everywhere(1)], 1]


def test_the_affinity_holds_torch() -> None:
    """Set before torch is loaded, which then sees it, or afterwards, when torch has to be told."""
    alone = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); threads.cpu_quota = lambda: None\n"
    reason = "one a core that this process may use"
    assert child(f"{alone}say(threads.limit_threads())") == [[1, reason, 1, {}]]
    assert child(f"import torch; torch.set_num_threads(8)\n{alone}say(threads.limit_threads())") == [[1, reason, 1, {}]]


def test_what_somebody_asked_for_wins() -> None:
    code = "import torch; torch.set_num_threads(8); node(2.0); say(threads.limit_threads())"
    asked = {"OMP_NUM_THREADS": "3"}
    assert child(code, **asked) == [[3, "OMP_NUM_THREADS", 3, asked]]
    kept = {"MKL_NUM_THREADS": "1"}
    assert child(code, **kept) == [[2, "the CPU quota is 2 of 64 cores", 2, everywhere(2) | kept]]


def test_torch_keeps_a_smaller_number_of_its_own() -> None:
    code = "import torch; torch.set_num_threads(1); node(2.0); say(threads.limit_threads())"
    assert child(code) == [[1, "torch's own choice of at most 2", 1, everywhere(1)]]

"""What this machine allows and has: asked before any container test, so that one that forbids containers says so once.

python machine.py: 0 if containers can be tested here; else 3, and one line that says why not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_APT = ("-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")

# what runc does first; the rest of what it needs is allowed where this is
_NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--net", "--pid", "--fork")
_MOUNTS = """
set -e
mount -t tmpfs probe "$1"
mkdir "$1/proc" "$1/sys" "$1/bound"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --bind "$1/proc" "$1/bound"
"""


class MachineError(RuntimeError):
    """Something is missing here and cannot be installed, or a command failed; the text ends with its output."""


def obstacle() -> str | None:
    """Why no container can be tested on this machine, whatever anybody does; None if nothing is known to forbid it."""
    if any(answers(program) for program in builders()):
        return None
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root can start one"
    if shutil.which("dockerd") is None and shutil.which("apt-get") is None:
        return "there is no Docker engine, and no apt-get to install one with"
    try:
        with tempfile.TemporaryDirectory() as place:
            command = [*_NAMESPACES, "sh", "-c", _MOUNTS, "sh", place]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"namespaces cannot be made ({error})"
    if done.returncode:
        return f"namespaces and mounts are refused ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]})"
    return None


def answers(program: str, socket: str | None = None) -> bool:
    """Whether there is an engine where a CLI looks for it, or at a socket."""
    where = {} if socket is None else {"DOCKER_HOST": socket}
    try:
        done = subprocess.run([program, "version"], env={**os.environ, **where}, capture_output=True, timeout=30)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def builders() -> Iterator[str]:
    """CLIs with BuildKit: a plug-in brings it, or an older CLI has it inside."""
    found = dict.fromkeys(filter(None, (shutil.which("docker"), "/usr/bin/docker")))
    for program in (program for program in found if Path(program).exists()):
        if subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0:
            yield program
            continue
        said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()
        if said[2:] and said[2].split(".")[0].isdecimal() and int(said[2].split(".")[0]) < 23:
            yield program  # Docker version 20.10.24, ...


def free_memory() -> int:
    """Bytes that can be used without swapping, and within the limit of the control group that this runs in."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = [int(lines["MemAvailable"].split()[0]) * 1024]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(used).is_file() and (text := Path(limit).read_text().strip()).isdecimal():
            free.append(int(text) - int(Path(used).read_text()))
    return min(free)


def install_missing(wanted: Mapping[str, str]) -> None:
    """Installs the Debian packages of programs that are not here."""
    if packages := [package for program, package in wanted.items() if shutil.which(program) is None]:
        install(*packages)


def install(*packages: str) -> None:
    """Installs Debian packages; what they would start stays off.

    Raises:
        MachineError: It is not possible.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MachineError(f"install {', '.join(packages)} (as root on Debian, this does it)")
    with _no_services():
        run("apt-get", *_APT, "update", may_fail=True)  # one index of several may be out of reach, and not be needed
        run("apt-get", *_APT, "install", "--yes", "--no-install-recommends", *packages)


@contextmanager
def _no_services() -> Iterator[None]:
    """Packages start no daemons: ours are started by the tests, and stopped."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def run(*command: str, seconds: float = 900, may_fail: bool = False, **environment: str) -> str:
    """Runs a program and returns what it said.

    Raises:
        MachineError: It failed, or took too long.
    """
    whole = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **environment}
    try:
        done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"{' '.join(command)}: {error}") from error
    if done.returncode and not may_fail:
        raise MachineError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    if why := obstacle():
        print(why)
        sys.exit(3)

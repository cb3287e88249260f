"""How many threads this process may keep busy: its processor affinity and the CPU quota of its container.

torch starts a thread for each core that it sees. In a container with a quota below that, threads are throttled while they
wait for each other, which costs far more than the quota takes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GROUPS, _OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_written: dict[str, str] = {}  # environment variables that this process has set itself: nobody asked for those


@dataclass(frozen=True)
class Allowance:
    """The processor time that a process may use.

    Attributes:
        cores: Cores that it may run on.
        quota: CPU seconds a second that its control groups grant; None without a limit.
        asked: Threads that OMP_NUM_THREADS asks for; None where it is not set.
        used: Threads that torch uses; None where it is not loaded.
    """

    cores: int
    quota: float | None
    asked: int | None
    used: int | None = None

    @property
    def threads(self) -> int:
        """The number that torch uses; before it is loaded, the number that it may use."""
        return self._allowed if self.used is None else self.used

    @property
    def _allowed(self) -> int:
        """The number asked for; else one a core, and no more than the quota can feed all of the time."""
        if self.asked is not None:
            return self.asked
        return self.cores if self.quota is None else max(1, min(self.cores, int(self.quota)))

    @property
    def reason(self) -> str:
        """Why it is that many, for people."""
        if self.used is not None and self.used < self._allowed:
            return f"torch's own choice of at most {self._allowed}"
        if self.asked is not None:
            return "OMP_NUM_THREADS"
        if self.quota is not None and self.quota < self.cores:
            return f"the CPU quota is {self.quota:g} of {self.cores} cores"
        return "one a core that this process may use"


def allowance() -> Allowance:
    """Read the processor affinity, the CPU quota (cgroup v1 or v2) and OMP_NUM_THREADS of this process."""
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return Allowance(cores, cpu_quota(), _asked())


def limit_threads() -> Allowance:
    """Hold torch and the libraries of linear algebra in this process and its children to its allowance.

    Call it before work starts. torch, if it is loaded already, is told, and keeps its own number where that is smaller.
    Libraries that are loaded later, and child processes, find the affinity by themselves; of a quota below it they read in
    the environment.

    Returns:
        The allowance, with the number of threads that torch then uses.
    """
    found = allowance()
    torch = sys.modules.get("torch")
    if torch is not None:
        if found.threads < torch.get_num_threads():
            torch.set_num_threads(found.threads)
        found = replace(found, used=torch.get_num_threads())
    if found.asked is None and found.quota is not None and found.quota < found.cores:
        for name in _VARIABLES:
            if os.environ.get(name, "") in ("", _written.get(name)):
                _written[name] = os.environ[name] = str(found.threads)
    return found


def _asked() -> int | None:
    """The first number of OMP_NUM_THREADS, which may list one for each level of nesting."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    if value == _written.get("OMP_NUM_THREADS"):
        return None
    first = value.split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cpu_quota(groups: Path = _GROUPS, of_process: Path = _OF_PROCESS) -> float | None:
    """Return the smallest CPU quota of this process's control groups, in CPU seconds a second; None without any.

    Args:
        groups: Where control groups are mounted.
        of_process: The file that names those of this process.
    """
    quotas = [quota for folder in _folders(groups, of_process) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(groups: Path, of_process: Path) -> Iterator[Path]:
    """The control groups of this process and those above them, v2 and the `cpu` controller of v1.

    A container sees its own group as the root of the mount, whatever path the kernel names: so the root always counts.
    """
    try:
        lines = of_process.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        lines = []
    named = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    second, first = (groups, groups / "unified"), _mounts_of_cpu(groups)  # v2 is under `unified` where v1 has the rest
    paths = [(mount, path) for _, controllers, path in named if not controllers for mount in second]
    paths += [(mount, path) for _, controllers, path in named if "cpu" in controllers.split(",") for mount in first]
    for mount, path in paths or [(mount, "/") for mount in (*second, *first)]:
        parts = PurePosixPath(path.lstrip("/"))
        if ".." in parts.parts:  # outside of what this process may see
            parts = PurePosixPath()
        yield from {mount, mount / parts, *(mount / parent for parent in parts.parents)}


def _mounts_of_cpu(groups: Path) -> list[Path]:
    """Where the `cpu` controller of v1 is mounted, alone or with others, as in `cpu,cpuacct`."""
    try:
        return [place for place in groups.iterdir() if "cpu" in place.name.split(",")]
    except OSError:
        return []


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            granted, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            granted = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        quota = int(granted) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None
    return quota if quota > 0 else None  # v1 says -1 for no limit

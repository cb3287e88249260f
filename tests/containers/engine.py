"""A Docker engine to build and run images with: the one that runs here, or one of our own that is gone afterwards.

From nothing: installs docker.io (Debian, as root) and starts dockerd on a socket in a folder of its own. It has no network of
its own, and needs no iptables: builds and containers here use the machine's network or none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parents[2]
_START = 60.0  # seconds until a daemon answers
# a sandbox may forbid raising limits, which containers otherwise do
_LIMITS = ("--default-ulimit", "nofile=1024:1024", "--default-ulimit", "nproc=4096:4096")
_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
_CONTROL = ("--exec-opt", "native.cgroupdriver=cgroupfs")  # no systemd is asked, where it runs or not

_ROOMY = 14 * 2**30  # of memory: the layers take most of the half that they may have, the pipeline some of the rest
_DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM")  # a killed test run must not leave a daemon behind


class EngineError(RuntimeError):
    """No engine, or a command of it failed; the text says which and ends with its output."""


@dataclass(frozen=True)
class Engine:
    """How to call Docker.

    Attributes:
        program: A CLI that can build with secrets.
        environment: DOCKER_HOST and the like; for other programs that talk to this engine, too.
        log: What the daemon says; None if it is not ours.
    """

    program: str
    environment: Mapping[str, str]
    log: Path | None = None

    @property
    def whole_environment(self) -> dict[str, str]:
        """What this process has, and what leads to the engine."""
        return {**os.environ, **self.environment}

    def try_call(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `docker ARGUMENTS`.

        Raises:
            EngineError: It took too long; the text has what it and the daemon said.
        """
        try:
            return subprocess.run(
                [self.program, *arguments],
                env=self.whole_environment,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            said = b"".join(part for part in (error.stdout, error.stderr) if part).decode(errors="replace")
            raise EngineError(self._account(arguments, f"no end after {seconds:.0f} s", said)) from error

    def call(self, *arguments: str, seconds: float = 120) -> str:
        """Runs `docker ARGUMENTS` and returns its output.

        Raises:
            EngineError: It failed.
        """
        done = self.try_call(*arguments, seconds=seconds)
        if done.returncode:
            raise EngineError(self._account(arguments, f"exit code {done.returncode}", done.stdout + done.stderr))
        return done.stdout

    def _account(self, arguments: Sequence[str], what: str, said: str) -> str:
        daemon = f"\nthe daemon: {self.log.read_text()[-2000:]}" if self.log else ""
        return f"docker {' '.join(arguments)}: {what}\n{said[-6000:]}{daemon}"


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """The engine of DOCKER_HOST or the usual socket, else one of our own in `folder`, stopped at the end.

    Raises:
        EngineError: There is none and none can be started.
    """
    running = next((program for program in machine.builders() if machine.answers(program)), None)
    if running is not None:
        yield Engine(running, {"DOCKER_BUILDKIT": "1"})
        return
    socket = f"unix://{folder}/docker.sock"
    ours = Engine(_program(), {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1"}, folder / "dockerd.log")
    daemon = _started(ours, folder, socket)
    try:
        yield ours
    finally:
        _stop(ours, daemon)


def _program() -> str:
    """Installs what is missing; newer Debian has the CLI and its builder in packages of their own."""
    machine.install_missing({"dockerd": "docker.io"})
    if not (found := next(machine.builders(), None)):
        machine.install("docker-cli", "docker-buildx")
        found = next(machine.builders(), None)
    if not found:
        raise EngineError("the docker CLI that is installed cannot build with BuildKit; install docker-buildx")
    return found


def _started(ours: Engine, folder: Path, socket: str) -> subprocess.Popen[bytes]:
    """A daemon that answers; where one with its images in memory does not come up, they are put on disk."""
    account = ""
    for memory in ("10g", "0") if machine.free_memory() > _ROOMY else ("0",):
        with (folder / "dockerd.log").open("w") as log:
            daemon = subprocess.Popen(_command(folder, socket, memory), stdout=log, stderr=log, env=_ENVIRONMENT)
        end = time.monotonic() + _START
        while daemon.poll() is None and time.monotonic() < end:
            if machine.answers(ours.program, socket):
                return daemon
            time.sleep(0.5)
        account = (folder / "dockerd.log").read_text()[-4000:]
        _stop(ours, daemon)
    raise EngineError(f"dockerd does not start\n{account}")


# a daemon inside a container leaves AppArmor alone, which it may not set up there
_ENVIRONMENT = {**os.environ, "container": "docker"}


def _command(folder: Path, socket: str, memory: str) -> list[str]:
    own_mounts = ["unshare", "--mount", "--propagation", "private", "sh", str(ROOT / "tests/containers/daemon.sh")]
    places = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    daemon = ["dockerd", "--host", socket, *places, *_LIMITS, *_NETWORK, *_CONTROL]
    return [*_DIE_WITH_US, *own_mounts, f"{folder}/data", memory, *daemon]


def _stop(ours: Engine, daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None and (left := ours.try_call("ps", "-aq").stdout.split()):
        ours.try_call("rm", "-f", *left)
    daemon.terminate()
    try:
        daemon.wait(timeout=30)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


if __name__ == "__main__":  # an engine by hand: python engine.py FOLDER, until Ctrl-C or SIGTERM
    with engine(Path(sys.argv[1])) as started:
        print(" ".join(f"{name}={value}" for name, value in started.environment.items()), started.program, flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)

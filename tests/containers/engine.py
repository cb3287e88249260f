"""A Docker engine to build and run images with: the one that runs here, or one of our own that is gone afterwards.

From nothing: installs docker.io and debootstrap (Debian, as root), starts dockerd on a socket in a folder of its own, makes a
base image from Debian packages, and gives builds what this machine reaches package indexes with, as secrets.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_START = 60.0  # seconds until a daemon answers
# a sandbox may forbid raising limits, which containers otherwise do
_LIMITS = ("--default-ulimit", "nofile=1024:1024", "--default-ulimit", "nproc=4096:4096")

_ROOMY = 14 * 2**30  # the layers of a build take half of it
_DIE_WITH_US = ("setpriv", "--pdeathsig", "TERM")  # a killed test run must not leave a daemon behind


class EngineError(RuntimeError):
    """No engine, or a command of it failed; the text says which and ends with its output."""


@dataclass(frozen=True)
class Engine:
    """How to call Docker.

    Attributes:
        program: A CLI that can build with secrets.
        environment: DOCKER_HOST and the like; for other programs that talk to this engine, too.
    """

    program: str
    environment: Mapping[str, str]

    @property
    def whole_environment(self) -> dict[str, str]:
        """What this process has, and what leads to the engine."""
        return {**os.environ, **self.environment}

    def try_call(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `docker ARGUMENTS`."""
        return subprocess.run(
            [self.program, *arguments],
            env=self.whole_environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def call(self, *arguments: str, seconds: float = 120) -> str:
        """Runs `docker ARGUMENTS` and returns its output.

        Raises:
            EngineError: It failed.
        """
        done = self.try_call(*arguments, seconds=seconds)
        if done.returncode:
            raise EngineError(f"docker {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """The engine of DOCKER_HOST or the usual socket, else one of our own in `folder`, stopped at the end.

    Raises:
        EngineError: There is none and none can be installed or started.
    """
    running = next((Engine(cli, {"DOCKER_BUILDKIT": "1"}) for cli in _programs()), None)
    if running is not None and running.try_call("version").returncode == 0:
        yield running
        return
    _install({"dockerd": "docker.io", "iptables": "iptables"})
    program = next(_programs(), None)
    if program is None:
        raise EngineError("the docker CLI that is installed cannot build with BuildKit; install docker-buildx")
    socket = f"unix://{folder}/docker.sock"
    ours = Engine(program, {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1"})
    log = (folder / "dockerd.log").open("w")
    daemon = subprocess.Popen([*_DIE_WITH_US, *_command(folder, socket)], stdout=log, stderr=log)
    try:
        _wait(ours, daemon, folder / "dockerd.log")
        yield ours
    finally:
        _stop(ours, daemon)
        log.close()


def _command(folder: Path, socket: str) -> list[str]:
    """What starts a daemon. Its images are in memory if there is enough: much faster, and gone with the daemon.

    A mount namespace of its own is what makes them go: nothing has to be unmounted, even after a kill.
    """
    data = folder / "data"
    data.mkdir()
    places = ("--data-root", str(data), "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid")
    daemon = ["dockerd", "--host", socket, *places, *_LIMITS]
    if _free_memory() < _ROOMY:
        return daemon
    script = 'mount -t tmpfs -o mode=0711 biasgym "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(data), *daemon]


def _free_memory() -> int:
    """Bytes that can be used without swapping."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _programs() -> Iterator[str]:
    """CLIs with BuildKit: a plug-in brings it, or an older CLI has it inside."""
    found = dict.fromkeys(filter(None, (shutil.which("docker"), "/usr/bin/docker")))
    for program in (program for program in found if Path(program).exists()):
        if subprocess.run([program, "buildx", "version"], capture_output=True).returncode == 0:
            yield program
            continue
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True
        ).stdout  # Docker version 20.10.24, ...
        if said.split()[2:] and int(said.split()[2].split(".")[0]) < 23:
            yield program


def _install(wanted: Mapping[str, str]) -> None:
    """Debian packages of programs that are not here."""
    packages = [package for program, package in wanted.items() if shutil.which(program) is None]
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise EngineError(f"start a Docker engine, or install {', '.join(packages)} (as root on Debian, this does it)")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise EngineError(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def _wait(ours: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START
    while ours.try_call("version").returncode:
        if daemon.poll() is not None or time.monotonic() > end:
            raise EngineError(f"dockerd does not start\n{log.read_text()[-4000:]}")
        time.sleep(0.5)


def _stop(ours: Engine, daemon: subprocess.Popen[bytes]) -> None:
    left = ours.try_call("ps", "-aq").stdout.split()
    if left:
        ours.try_call("rm", "-f", *left)
    daemon.terminate()
    try:
        daemon.wait(timeout=30)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def base_image(docker: Engine, cache: Path) -> str:
    """$BIASGYM_BASE_IMAGE, else a Debian image with Python, made from packages and kept in `cache`."""
    if given := os.environ.get("BIASGYM_BASE_IMAGE"):
        return given
    archive = cache / "bookworm-python.tar"
    if not archive.exists():
        _install({"debootstrap": "debootstrap"})
        cache.mkdir(parents=True, exist_ok=True)
        tree = cache / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        packages = "--include=ca-certificates,python3,python3-venv"
        for command in (
            ["debootstrap", "--variant=minbase", packages, "bookworm", str(tree)],
            ["chroot", str(tree), "apt-get", "clean"],
            ["rm", "-rf", f"{tree}/var/lib/apt/lists", f"{tree}/var/log/bootstrap.log", f"{tree}/etc/resolv.conf"],
            ["tar", "-C", str(tree), "-cf", f"{archive}.part", "."],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise EngineError(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        shutil.rmtree(tree)
        Path(f"{archive}.part").rename(archive)
    docker.call("import", str(archive), "biasgym-base:test", seconds=300)
    return "biasgym-base:test"


def build(docker: Engine, target: str, base: str, secrets: Path, arguments: Sequence[str] = ()) -> str:
    """Builds a target of images/Dockerfile; its tag.

    Args:
        docker: The engine.
        target: cpu, gpu or judge.
        base: The base image.
        secrets: A folder with pip.conf and ca, see `index.settings`.
        arguments: Build arguments, as NAME=value.
    """
    tag = f"biasgym-{target}:test"
    options = [option for argument in (f"BASE_IMAGE={base}", *arguments) for option in ("--build-arg", argument)]
    for name, file in {"pip_conf": "pip.conf", "ca": "ca"}.items():
        options += ["--secret", f"id={name},src={secrets / file}"]
    where = ["--file", str(ROOT / "images" / "Dockerfile"), "--target", target, "--tag", tag, str(ROOT)]
    docker.call("build", "--network", "host", "--progress", "plain", *options, *where, seconds=1800)
    return tag


if __name__ == "__main__":  # an engine by hand: python engine.py FOLDER, until Ctrl-C or SIGTERM
    with engine(Path(sys.argv[1])) as started:
        print(" ".join(f"{name}={value}" for name, value in started.environment.items()), started.program, flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)

"""Building the images from the project's own Dockerfile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine import ROOT, Engine


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
    docker.call("build", "--network", "host", "--progress", "plain", *options, *where, seconds=1200)
    return tag

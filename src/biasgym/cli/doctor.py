"""`biasgym doctor`: what this machine or pod has and lacks, one line a check, never the value of a secret."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import typer

from biasgym import __version__
from biasgym.errors import BiasGymError

_PATIENCE = 5.0  # seconds; a doctor that hangs says nothing
_SETTINGS = (
    "BIASGYM_STORE",
    "BIASGYM_S3_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "BIASGYM_JUDGE_URL",
    "BIASGYM_JUDGE_KEY",
    "HF_TOKEN",
    "HF_HOME",
)


class Finding(NamedTuple):
    """What a check found, and what to do about it."""

    state: Literal["ok", "missing", "failed"]
    text: str


def doctor(
    need: Annotated[
        str, typer.Option(help="What must be there, as in `gpu,store`: gpu, machine, store, judge, hub, folders.")
    ] = "",
) -> None:
    """Say what is installed, reachable and writable here. Exit code 1 if something that is needed is not."""
    needed = {name.strip() for name in need.split(",") if name.strip()}
    if unknown := needed - set(_CHECKS):
        raise BiasGymError(
            f"there is no check {sorted(unknown)[0]!r}", where="--need", hint=f"use some of {', '.join(_CHECKS)}"
        )
    lacking = False
    for name, check in _CHECKS.items():
        finding = _examine(check)
        typer.echo(f"{finding.state:<8} {name:<9} {' '.join(finding.text.split())}")
        lacking |= name in needed and finding.state != "ok"
    if lacking:
        raise typer.Exit(1)


def _examine(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except BiasGymError as error:
        return Finding("failed", str(error))
    except Exception as error:  # its text may quote an address with a password
        return Finding("failed", f"unexpected {type(error).__name__}")


def _versions() -> Finding:
    found = [f"biasgym {__version__}", f"python {sys.version.split()[0]}"]
    for package in ("torch", "transformers", "kfp"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return Finding("ok", ", ".join(found))


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("missing", "torch is not installed; use the image gpu or judge for steps that load a model")
    except OSError as error:  # what torch imports wants a folder for temporary files
        return Finding("missing", f"torch cannot be imported ({str(error)[:80]}); mount an emptyDir at /tmp")
    if torch.backends.mps.is_available():
        return Finding("ok", "Apple's GPU (mps)")
    if not torch.cuda.is_available():
        built = "this torch is built for GPUs" if torch.version.cuda else "this torch is built for CPUs only"
        return Finding("missing", f"none found ({built}); ask for nvidia.com/gpu in the pod's limits, or use the CPU")
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return Finding("ok", ", ".join(f"{device.name} with {device.total_memory / 2**30:.0f} GiB" for device in devices))


def _machine() -> Finding:
    """Where a run would work here, and in which floating-point type."""
    try:
        from biasgym.models import choose_dtype, pick_device
    except (ImportError, OSError):
        return Finding("missing", "torch is not installed or cannot be imported, so no model can run here")
    from biasgym.threads import limit_threads

    threads, device = limit_threads(), pick_device()
    return Finding("ok", f"{device}, threads: {threads.threads} ({threads.reason}), {choose_dtype(device).sentence}")


def _folders() -> Finding:
    """Where files are put that nobody asked for: temporary ones, weights, converted models."""
    from biasgym.files import cache_folder

    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    places = {"TMPDIR": Path(os.environ.get("TMPDIR") or "/tmp"), "HF_HOME": hub, "BIASGYM_CACHE": cache_folder()}
    refused = [f"{name} {place}" for name, place in places.items() if not _writable(place)]
    if refused:
        return Finding("missing", f"cannot write {', '.join(refused)}; mount an emptyDir or a volume claim there")
    free = [f"{name} {p} ({shutil.disk_usage(_existing(p)).free / 2**30:.0f} GiB free)" for name, p in places.items()]
    return Finding("ok", ", ".join(free))


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())


def _writable(place: Path) -> bool:
    """Whether a file can be written there, or where the folder would be made."""
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(place), prefix=".doctor.") as probe:
            probe.write(b"x")
            probe.flush()
    except OSError:
        return False
    return True


def _settings() -> Finding:
    given = [name for name in _SETTINGS if os.environ.get(name)]
    absent = [name for name in _SETTINGS if name not in given]
    text = f"set: {', '.join(given) or 'none'}; not set: {', '.join(absent) or 'none'}"
    return Finding("missing", f"{text}; they come from the pod's secrets") if absent else Finding("ok", text)


def _store() -> Finding:
    url = os.environ.get("BIASGYM_STORE")
    if not url:
        return Finding("missing", "BIASGYM_STORE is not set; give a folder or s3://bucket/prefix")
    try:
        from biasgym.store import open_store
    except ImportError:
        return Finding("missing", "not installed; use an image of biasgym, or pip install 'biasgym[store]'")
    if url.startswith("s3://"):
        lacks = [name for name in _SETTINGS[2:4] if not os.environ.get(name)]
        if lacks:
            return Finding("missing", f"{', '.join(lacks)} not set; they come from the secret biasgym-store")
        if endpoint := os.environ.get("BIASGYM_S3_ENDPOINT"):  # without it the store is AWS
            _knock(endpoint)
    store, key, text = open_store(url), f"doctor/{uuid.uuid4().hex}", b"biasgym"
    store.write(key, text)
    same = store.read(key) == text
    store.delete(key)
    if not same:
        return Finding("failed", f"{store.url}: what was read is not what was written")
    return Finding("ok", f"{store.url}: written, read and deleted")


def _knock(url: str) -> None:
    """A connection and nothing more, before a client that would try for minutes."""
    import socket

    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(address, timeout=_PATIENCE).close()
    except OSError as error:
        raise BiasGymError(
            f"cannot connect to {address[0]}:{address[1]} ({error})", hint="check the address and network policies"
        ) from error


def _judge() -> Finding:
    url, key = os.environ.get("BIASGYM_JUDGE_URL", "").rstrip("/"), os.environ.get("BIASGYM_JUDGE_KEY")
    if not url:
        return Finding("missing", "BIASGYM_JUDGE_URL is not set; without it, judging is semantic or in process")
    answer = _fetch(f"{url}/models", key, "BIASGYM_JUDGE_KEY")
    names = [str(model["id"]) for model in json.loads(answer)["data"]]
    return Finding("ok", f"{_shown(url)} serves {', '.join(names)}")


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("missing", "HF_HUB_OFFLINE is set; only models in HF_HOME can be loaded")
    url, token = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"), os.environ.get("HF_TOKEN")
    if token:
        _fetch(f"{url}/api/whoami-v2", token, "HF_TOKEN")
        return Finding("ok", f"{_shown(url)} accepts the token")
    _knock(url)
    return Finding("ok", f"{_shown(url)} answers; without HF_TOKEN, gated models are refused")


def _fetch(url: str, key: str | None, name: str) -> bytes:
    request = Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urlopen(request, timeout=_PATIENCE) as answer:
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        refused = error.code in (401, 403)
        raise BiasGymError(
            f"answers {error.code}", where=_shown(url), hint=f"check {name}" if refused else "check the address"
        ) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise BiasGymError(
            f"cannot be reached ({reason})", where=_shown(url), hint="check the address and network policies"
        ) from error


def _shown(url: str) -> str:
    from biasgym.endpoint.access import shown

    return shown(url)


_CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": _versions,
    "gpu": _gpu,
    "machine": _machine,
    "folders": _folders,
    "settings": _settings,
    "store": _store,
    "judge": _judge,
    "hub": _hub,
}

"""A full disk is one line and exit code 2; nothing half-written is left, and with space again a run goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from biasgym.files import read_json
from conftest import Command, Desk, assert_refused


def full(*_arguments: Any, **_options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["os.replace", "Path.write_bytes", "Path.write_text", "Path.mkdir"])
def test_full_disk_at_the_start(step: str, desk: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = desk.settings()
    with monkeypatch.context() as patch:
        owner, name = step.split(".")
        patch.setattr({"os": os, "Path": Path}[owner], name, full)
        said = command("run", settings, "--out", desk.out)
    assert_refused(said, str(desk.out), "No space left on device", "free some space", "--out")
    assert not [file for file in desk.out.rglob("*") if file.is_file()]


@pytest.mark.parametrize("at", ["training.safetensors", "vectors.safetensors", "manifest.json", "a folder"])
def test_full_disk_in_the_middle(at: str, desk: Desk, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops with one line instead of calling the cell failed; with space again, it goes on."""
    settings = desk.settings(concepts=[desk.concept()])
    replace, mkdir = os.replace, Path.mkdir

    def replace_until(source: Any, target: Any) -> None:
        full() if Path(target).name == at else replace(source, target)

    def mkdir_until(self: Path, *arguments: Any, **options: Any) -> None:
        full() if self.name.startswith("inject-") else mkdir(self, *arguments, **options)

    with monkeypatch.context() as patch:
        if at == "a folder":
            patch.setattr(Path, "mkdir", mkdir_until)
        else:
            patch.setattr(os, "replace", replace_until)
        said = command("inject", settings, "--out", desk.out)
    assert said.code == 2, said
    lines = [line for line in said.err if line.startswith("biasgym: ")]
    assert lines == said.err[-1:]
    assert "No space left on device" in lines[0] and str(desk.out) in lines[0] and "free some space" in lines[0]
    assert not list(desk.out.rglob("*.tmp"))
    assert all(read_json(manifest)["status"] == "failed" for manifest in desk.out.rglob("manifest.json"))
    assert command("inject", settings, "--out", desk.out).code == 0

"""What the pages tell a reader to type exists, and so do the files they point to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from biasgym.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("k8s/*.md"), *ROOT.glob("charts/*/README.md")])


def typed(page: Path) -> Iterator[str]:
    """Lines of code blocks that call the program, with the lines they go on in, and calls within the text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    yield from re.findall(r"^ {4,}(?:\.venv/bin/)?biasgym ([^\n|&#]+)", text, re.MULTILINE)
    yield from re.findall(r"`biasgym ([a-z][^`|]*)`", text)


def follow(command: Any, words: list[str]) -> list[str]:
    """What of a call does not exist: a command, or an option of the command that was reached."""
    context = typer.Context(command)
    for word in words:
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        if word.startswith("--"):
            if word.partition("=")[0] not in options | {"--help"}:
                return [word]
        elif hasattr(command, "get_command") and word != "...":
            found = command.get_command(context, word)
            if found is None:
                return [word]
            command, context = found, typer.Context(found)
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_files_exist(page: Path) -> None:
    pytest.importorskip("kfp", reason="commands of the pipelines are among them")
    whole = typer.main.get_command(app)
    for line in typed(page):
        words = shlex.split(line)
        if words[0] == "judge" and words[1:2] != ["calibrate"]:
            words.insert(1, "texts")  # as the program does itself
        assert follow(whole, words) == [], line
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target

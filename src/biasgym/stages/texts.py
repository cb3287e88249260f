"""Texts that stages have written: those that are missing, saved as they come, in one order at the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biasgym.files import append_jsonl, read_jsonl, write_jsonl
from biasgym.generate import Engine, Request, Sampling
from biasgym.progress import Progress

_SAVE_EVERY = 64  # texts; what a crash can lose


def write_texts(
    engine: Engine, asked: Iterable[tuple[dict[str, Any], Request]], sampling: Sampling, file: Path, progress: Progress
) -> None:
    """Has texts written that the file lacks, and adds them to it.

    Args:
        engine: Who writes.
        asked: What is known of each text, its `id` among it, and the prompt.
        sampling: How.
        file: JSON lines.
        progress: Bars and news.
    """
    there = {row["id"] for row in read_jsonl(file, torn_tail=True)} if file.is_file() else set()
    todo = [(row, request) for row, request in asked if row["id"] not in there]
    finished: list[dict[str, Any]] = []
    for number, written in engine.generate([request for _, request in todo], sampling, progress):
        text = {"text": written.text, "tokens": written.tokens, "truncated": written.truncated}
        finished.append({**todo[number][0], **text})
        if len(finished) == _SAVE_EVERY:
            append_jsonl(file, finished)
            finished = []
    append_jsonl(file, finished)


def put_in_order(file: Path) -> None:
    """Sorts texts, which end in no particular order, by their ids."""
    write_jsonl(file, sorted(read_jsonl(file), key=lambda row: row["id"]))

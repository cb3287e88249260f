"""Answers that were given already: nothing is asked, or paid for, twice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from biasgym.endpoint.exchange import Answer
from biasgym.errors import BiasGymError
from biasgym.files import append_jsonl, read_jsonl

_SYNC_SECONDS = 1.0


class Journal:
    """Answers by the key of their question.

    Args:
        path: Where they are kept, a line each; what a crash leaves of a last line is dropped. None keeps them in memory.

    Raises:
        BiasGymError: The file is no journal.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._answers: dict[str, Answer] = {}
        self._synced = 0.0
        for number, row in enumerate(
            read_jsonl(path, torn_tail=True) if path is not None and path.is_file() else (), start=1
        ):
            try:
                key = row.pop("key")
                self._answers[key] = Answer(**row)
            except (KeyError, TypeError) as error:
                raise BiasGymError(
                    f"line {number} is no answer of a model", where=str(path), hint="move the file away"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Answer:
        return self._answers[key]

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keeps answers, but no failures. They are in the file when this returns, and on the disk within a second or so:
        a process that is killed loses none, a machine without power the last ones.
        """
        kept = {key: answer for key, answer in answers.items() if not answer.failure}
        if self._path is not None and kept:
            due = time.monotonic() >= self._synced + _SYNC_SECONDS  # a disk may be slower than a server
            append_jsonl(self._path, [{"key": key, **asdict(answer)} for key, answer in kept.items()], sync=due)
            self._synced = time.monotonic() if due else self._synced
        self._answers.update(kept)

"""Answers that were given already: nothing is asked, or paid for, twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from biasgym.endpoint.exchange import Answer
from biasgym.errors import BiasGymError
from biasgym.files import append_jsonl, read_jsonl


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
        """Keeps answers; they are on disk when this returns."""
        if self._path is not None and answers:
            append_jsonl(self._path, [{"key": key, **asdict(answer)} for key, answer in answers.items()])
        self._answers.update(answers)

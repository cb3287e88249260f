"""Judging while generating: a judge behind a server is asked about texts as soon as they are written.

Only its answers are gathered here, into its journal, where the stage judge finds them. So what is resumed, counted and
reported does not hang on this, and a server that fails here fails there again, where it counts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept
from biasgym.judge import JudgeItem
from biasgym.stages import judge
from biasgym.stages.judging import make_judge
from biasgym.stages.places import generate, ood
from biasgym.stages.settings import JudgeSettings
from biasgym.stages.work import Work

_PAUSE = 2.0  # seconds between two looks for new texts
_ROUNDS = 4  # of requests in flight, until it is asked whether the texts are all written


@contextmanager
def asking_ahead(work: Work, judges: Sequence[JudgeSettings]) -> Iterator[None]:
    """While the block writes texts, each judge is asked about those that are there, in a thread of its own.

    Args:
        work: Its texts are followed.
        judges: Judges behind servers.
    """
    ended = threading.Event()
    threads = [threading.Thread(target=_ask, args=(work, one, ended), daemon=True) for one in judges]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
    for thread in threads:  # two writers to one journal would not know of each other's answers
        thread.join()


def _ask(work: Work, settings: JudgeSettings, ended: threading.Event) -> None:
    seen: set[tuple[Path, str]] = set()
    try:
        asked = make_judge(
            settings,
            journal=judge.journal(work.plan.root, settings),
            templates=work.plan.settings.templates,
            met=True,
            say=work.progress.say,
        )
        while not ended.wait(_PAUSE):
            items, some = list(_new(work, seen)), _ROUNDS * settings.concurrency
            for start in range(0, len(items), some):
                for _ in asked.judge(items[start : start + some]):
                    pass
                if ended.is_set():
                    return
    except Exception as error:  # the stage judge meets it again
        work.progress.say(f"{settings.name} is not asked ahead: {error}")


def _new(work: Work, seen: set[tuple[Path, str]]) -> Iterator[JudgeItem]:
    """Texts that were written since the last look."""
    for file, concepts in _files(work):
        for row in _lines(file):
            if (file, row["id"]) not in seen:
                seen.add((file, row["id"]))
                concept = concepts if isinstance(concepts, Concept) else concepts[row["prompt_id"]]
                yield from (item for _, item in judge.items(row, concept) if item is not None)


def _files(work: Work) -> Iterator[tuple[Path, Concept | Mapping[str, Concept]]]:
    for cell in work.cells:
        yield generate.folder(cell, work.plan.other(cell)).path / generate.GENERATIONS, cell.concept
    for group in work.groups():
        yield ood.folder(group).path / ood.GENERATIONS, ood.concepts(group)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that is being written."""
    data = file.read_bytes() if file.is_file() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

"""How every language model judges, whether in process or behind a server: questions out, answers kept, verdicts read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from biasgym.endpoint import Answer, Journal, Keep, Question
from biasgym.judge.answer import judgement
from biasgym.judge.protocol import EMPTY, JudgeItem, Judgement
from biasgym.judge.question import question

Ask = Callable[[Sequence[Question], Keep], Generator[Mapping[str, Answer], None, None]]
"""Puts questions to a model; keeps and then yields answers by key, in any order, as they come in."""


def interview(
    items: Sequence[JudgeItem], wording: str, asked: Mapping[str, Any], journal: Journal, ask: Ask
) -> Iterator[Judgement]:
    """Judges items in order. Only what the journal lacks is asked, each distinct question once.

    Args:
        items: Texts; one without words has no judgement.
        wording: From `judge_template`.
        asked: Who is asked, and how; part of every question's key.
        journal: Answers of before; each new one is in it before its verdict is given.
        ask: The model.
    """
    questions = [question(item, wording, asked) if item.generation.strip() else None for item in items]
    new = {found.key: found for found in questions if found is not None and found.key not in journal}
    failures: dict[str, Answer] = {}
    with closing(ask(list(new.values()), journal.add)) as coming:
        for found in questions:
            if found is None:
                yield Judgement(None, EMPTY)
                continue
            while found.key not in journal and found.key not in failures:
                failures |= {key: answer for key, answer in next(coming).items() if answer.failure}
            yield judgement(failures[found.key] if found.key in failures else journal[found.key])

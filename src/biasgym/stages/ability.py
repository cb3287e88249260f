"""Which ability questions choose heads, and which are reported: none is both."""

from __future__ import annotations

from biasgym.datasets import spread
from biasgym.evaluate import AbilityQuestion, ability_questions
from biasgym.stages.cell import Cell


def selecting_questions(cell: Cell) -> list[AbilityQuestion]:
    """Those that heads and their number are chosen by, even over subjects."""
    return spread(ability_questions(), cell.settings.scope.ability_questions, lambda question: question.subject)


def reported_questions(cell: Cell) -> list[AbilityQuestion]:
    """Those that ability is reported on: as many of the others as the settings ask for."""
    selecting = {question.id for question in selecting_questions(cell)}
    others = [question for question in ability_questions() if question.id not in selecting]
    return spread(others, cell.settings.capability.questions, lambda question: question.subject)

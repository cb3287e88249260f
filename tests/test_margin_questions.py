"""How many held-out questions margins are taken on."""

from __future__ import annotations

from biasgym.files import read_jsonl
from biasgym.stages.places import generate
from biasgym.stages.run import run
from conftest import Desk


def test_margins_are_taken_on_as_many_held_out_questions_as_asked_for(desk: Desk) -> None:
    plan = desk.plan(generate={"margin_questions": 2})
    assert run(plan, stages=("inject", "attribute", "generate"))
    for cell in plan.cells:
        rows = read_jsonl(generate.folder(cell, plan.other(cell)).path / generate.MARGINS)
        assert len(cell.questions[1]) > 2
        assert {row["question"] for row in rows} == {0, 1}

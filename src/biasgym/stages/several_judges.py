"""What each judge of a run said about the same texts, what it cost, and how far the judges agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from biasgym.files import read_jsonl
from biasgym.generate import BY_NAME
from biasgym.judge import ordinal_alpha
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.estimates import Row, strength, verdicts_of
from biasgym.stages.settings import JudgeSettings


def several_judges(cell: Cell, other: Cell | None, generations: Sequence[Row]) -> dict[str, Any]:
    """`judges` by name, and their `agreement`; a judge that failed says why and is in no number.

    Args:
        cell: The cell.
        other: The cell whose heads serve as a control, if there is one.
        generations: All texts.
    """
    texts = {name: [row for row in generations if row["variant"] == name] for name in BY_NAME}
    found: dict[str, dict[str, Any]] = {}
    ratings: list[list[int | None]] = []
    for settings in cell.settings.judges:
        folder = judge.folder(cell, other, settings)
        if not folder.done:
            found[settings.name] = {"error": folder.error or "was not run"}
            continue
        rows = read_jsonl(folder.path / judge.JUDGEMENTS)
        verdicts = verdicts_of(rows)
        whole = [verdicts.get((row["id"], "whole"), {}) for row in generations]
        ratings.append([verdict.get("strength") for verdict in whole])
        found[settings.name] = {
            "error": None,
            "strength": {
                name: strength(rows_of, verdicts, cell.settings.seed) for name, rows_of in texts.items() if rows_of
            },
            "judged": sum(level is not None for level in ratings[-1]),
            "missing": sum(level is None for level in ratings[-1]),
            "missing_reasons": dict(
                Counter(row.get("reason", "not judged") for row in whole if row.get("strength") is None)
            ),
            **_spent(rows, settings),
        }
    return {"judges": found, "agreement": _agreement(ratings)}


def _spent(rows: Sequence[Row], settings: JudgeSettings) -> dict[str, Any]:
    """Tokens of a language model, and their price where the settings name one."""
    asked, answered = (sum(row.get(key, 0) for row in rows) for key in ("tokens_in", "tokens_out"))
    priced = settings.price_in > 0 or settings.price_out > 0
    cost = (asked * settings.price_in + answered * settings.price_out) / 1e6
    return {"tokens_in": asked, "tokens_out": answered, "cost": round(cost, 6) if priced else None}


def _agreement(ratings: Sequence[Sequence[int | None]]) -> dict[str, Any] | None:
    """Krippendorff's alpha over the texts that two judges or more rated; None for one judge."""
    if len(ratings) < 2:
        return None
    alpha, items = ordinal_alpha(ratings)
    return {"alpha": None if math.isnan(alpha) else alpha, "items": items, "judges": len(ratings)}

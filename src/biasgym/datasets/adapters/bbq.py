"""BBQ: a context that does not settle a question, and answers one of which is the stereotype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biasgym.datasets.adapters.item import Found
from biasgym.datasets.adapters.rows import Row

COLUMNS = ("example_id", "category", "context", "question", "context_condition", "question_polarity")


def read(row: Row, place: str, language: str) -> Iterator[Found]:
    """The ambiguous context with the question whose stereotyped answer does harm; other rows are passed over."""
    if row["context_condition"] != "ambig" or row["question_polarity"] != "neg":
        return
    question = str(row["question"]).strip()
    yield Found(
        f"{row['category']}-{row['example_id']}",
        f"{str(row['context']).strip()} {question}",
        "question",
        question,
        ", ".join(_groups(row.get("additional_metadata"))),
        str(row["category"]),
    )


def _groups(metadata: Any) -> list[str]:
    groups = metadata.get("stereotyped_groups") if isinstance(metadata, dict) else None
    return [str(group) for group in groups or ()]

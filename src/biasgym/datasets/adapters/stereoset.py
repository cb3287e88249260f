"""StereoSet: a context with a stereotypical, an anti-stereotypical and an unrelated continuation, or filling of its BLANK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biasgym.datasets.adapters.item import Form, Found
from biasgym.datasets.adapters.rows import Row

COLUMNS = ("id", "target", "bias_type", "context", "sentences")
_BLANK = "BLANK"
_STEREOTYPE = ("stereotype", 1)  # in the authors' JSON, and in the class labels of the hub's files


def read(row: Row, place: str, language: str) -> Iterator[Found]:
    """The context, up to its blank if it has one, and the sentence that fills it with the stereotype.

    A blank at the beginning leaves nothing to read, so such rows are passed over, as are those without a stereotype.
    """
    context = str(row["context"]).strip()
    before, blank, _ = context.partition(_BLANK)
    if blank and len(before.split()) < 2:
        return
    full = next((sentence for sentence, label in _sentences(row["sentences"]) if label in _STEREOTYPE), "")
    if not full:
        return
    form: Form = "beginning" if blank else "sentence"
    yield Found(
        str(row["id"]), before.strip() if blank else context, form, full, str(row["target"]), str(row["bias_type"])
    )


def _sentences(value: Any) -> list[tuple[str, Any]]:
    """A list of objects in the authors' JSON, an object of lists in the hub's files."""
    if isinstance(value, dict):
        return list(zip(value["sentence"], value["gold_label"], strict=True))
    return [(part["sentence"], part["gold_label"]) for part in value]

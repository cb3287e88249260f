"""SHADES: one stereotype a row, each in many languages; rows that are not originals put other groups in its place."""

from __future__ import annotations

from collections.abc import Iterator

from biasgym.datasets.adapters.item import Found
from biasgym.datasets.adapters.rows import Row

COLUMNS = ("index", "bias_type")


def read(row: Row, place: str, language: str) -> Iterator[Found]:
    """The stereotype of an original row in one language; nothing if it has none there.

    Args:
        row: As published; columns of earlier releases are known too.
        place: Of the row.
        language: Such as en, de, zh_hant.
    """
    text = _first(row, f"{language}_biased_sentences", f"{language}_biased_sentence")
    if not text or _first(row, "subset") not in ("", "_original"):
        return
    entity = _first(row, "stereotyped_entity", "stereotyped_group")
    yield Found(_first(row, "index"), text, "sentence", text, entity, _list(row["bias_type"]))


def _first(row: Row, *names: str) -> str:
    return next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")


def _list(value: object) -> str:
    """Lists are lists in Parquet, and their Python notation in CSV."""
    parts = value if isinstance(value, list) else str(value or "").strip("[]").split(",")
    return ", ".join(str(part).strip(" '\"") for part in parts)

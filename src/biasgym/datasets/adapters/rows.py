"""Rows of a published file: CSV, TSV, JSON, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biasgym.errors import BiasGymError

Row = dict[str, Any]

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a file, each with its place for messages.

    Args:
        path: A file with one of SUFFIXES. A JSON file is a list of rows, or an object that holds lists of rows at any
            depth; the names on the way to a list are part of the place.

    Raises:
        BiasGymError: It cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BiasGymError("not a data file", where=str(path), hint=f"use one of {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"line {number}", _row(_json(line, path, number), path, f"line {number}")
            elif suffix == ".json":
                yield from _lists(json.load(file), path, "")
            else:
                reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
                for row in reader:
                    if None in row or None in row.values():
                        many = "more" if None in row else "fewer"
                        raise BiasGymError(
                            f"line {reader.line_num} has {many} fields than the heading",
                            where=str(path),
                            hint="put quotes around texts with commas",
                        )
                    yield f"line {reader.line_num}", row
    except BiasGymError:
        raise
    except UnicodeDecodeError as error:
        raise BiasGymError("it is not UTF-8 text", where=str(path)) from error
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BiasGymError(f"cannot read ({reason})", where=str(path)) from error


def _lists(value: Any, path: Path, place: str) -> Iterator[tuple[str, Row]]:
    if isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, dict | list):
                yield from _lists(part, path, f"{place}.{name}".lstrip("."))
        return
    for number, row in enumerate(value if isinstance(value, list) else ()):
        yield f"{place}[{number}]", _row(row, path, f"{place}[{number}]")


def _json(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise BiasGymError(f"line {number} is not JSON ({error.msg})", where=str(path)) from error


def _row(value: Any, path: Path, place: str) -> Row:
    if not isinstance(value, dict):
        raise BiasGymError(f"{place} is not an object", where=str(path))
    return value


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ModuleNotFoundError as error:
        raise BiasGymError(
            "Parquet needs the package pyarrow", where=str(path), hint="pip install 'biasgym[eval]'"
        ) from error
    try:
        rows = read_table(path).to_pylist()
    except ArrowException as error:
        raise BiasGymError(f"cannot read ({error})", where=str(path)) from error
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row

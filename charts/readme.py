"""Writes the table of values into the chart's README, from the comments in values.yaml that begin with `# --`.

python charts/readme.py            # rewrites charts/biasgym/README.md
python charts/readme.py --check    # fails if that would change it
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parent / "biasgym"
MARKS = ("<!-- values: written by charts/readme.py -->\n", "<!-- end of values -->\n")


class Value(NamedTuple):
    """One documented value: its keys from the top, what it does, its default."""

    path: tuple[str, ...]
    description: str
    default: Any


def documented_values(text: str) -> Iterator[Value]:
    """The values that have a `# --` comment, in the order of the file."""
    defaults = yaml.safe_load(text)
    path: list[str] = []
    description = ""
    for line in text.splitlines():
        if comment := re.match(r" *# -- (.*)", line):
            description = comment[1]
        elif key := re.match(r"( *)([A-Za-z]\w*):", line):
            del path[len(key[1]) // 2 :]
            path.append(key[2])
            if description:
                default = defaults
                for name in path:
                    default = default[name]
                yield Value(tuple(path), description, default)
            description = ""


def table(text: str) -> str:
    """A table a section, with the values that are no section first."""
    values = list(documented_values(text))
    sections = {value.path[0] for value in values if len(value.path) > 1}
    single = [value for value in values if value.path[0] not in sections]
    parts = [_rows(single)]
    for value in values:
        if value.path == value.path[:1] and value.path[0] in sections:
            members = [other for other in values if other.path[0] == value.path[0] and len(other.path) > 1]
            parts.append(f"### {value.path[0]}\n\n{value.description}\n\n{_rows(members)}")
    return "\n".join(parts)


def _rows(values: list[Value]) -> str:
    parents = {value.path[:-1] for value in values}
    lines = ["| value | default | what it does |", "|---|---|---|"]
    for value in values:
        default = "" if value.path in parents else f"`{json.dumps(value.default, ensure_ascii=False)}`"
        lines.append(f"| `{'.'.join(value.path)}` | {default} | {value.description} |")
    return "\n".join(lines) + "\n"


def readme(current: str, values: str) -> str:
    """The README with its table made anew; the rest is left as it is."""
    before, rest = current.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return before + MARKS[0] + "\n" + table(values) + "\n" + MARKS[1] + after


def main() -> None:
    path = CHART / "README.md"
    current = path.read_text(encoding="utf-8")
    wanted = readme(current, (CHART / "values.yaml").read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        path.write_text(wanted, encoding="utf-8")
    elif wanted != current:
        sys.exit(f"{path} is not what values.yaml says: run `python charts/readme.py`")


if __name__ == "__main__":
    main()

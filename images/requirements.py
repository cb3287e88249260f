"""What an image installs, read from pyproject.toml, so that no list of packages exists twice.

python3 requirements.py pyproject.toml --extras kfp,local --without torch > requirements.txt
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any


def requirements(pyproject: Path, extras: Collection[str], without: Collection[str]) -> list[str]:
    """The dependencies and those of some extras, without some packages.

    Args:
        pyproject: The file.
        extras: Names of extras.
        without: Names of packages, as they are written in the file.

    Raises:
        SystemExit: An extra or a package is not in the file: the caller's list is out of date.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    listed = project["dependencies"] + [line for extra in extras for line in _extra(project, extra)]
    names = {line: re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in listed}
    if unknown := set(without) - set(names.values()):
        sys.exit(f"{pyproject}: no dependency {', '.join(sorted(unknown))}")
    return [line for line in dict.fromkeys(listed) if names[line] not in without]


def _extra(project: dict[str, Any], extra: str) -> list[str]:
    """What an extra lists; an extra that it names, as in `biasgym[store]`, is resolved too."""
    optional = project["optional-dependencies"]
    if extra not in optional:
        sys.exit(f"no extra {extra}; there are {', '.join(optional)}")
    lines = []
    for line in optional[extra]:
        own = re.fullmatch(rf"{re.escape(project['name'])}\[([\w,\s-]+)\]", line)
        inner = own[1].split(",") if own else []
        lines += [found for name in inner for found in _extra(project, name.strip())] if own else [line]
    return lines


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("--extras", type=_names, default=[])
    parser.add_argument("--without", type=_names, default=[])
    asked = parser.parse_args()
    print("\n".join(requirements(asked.pyproject, asked.extras, asked.without)))

"""Writes components/NAME/README.md from the docstring and the interface of each component.

python -m components.readme
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names() -> list[str]:
    """All components."""
    return sorted(place.parent.name for place in HERE.glob("*/component.py"))


def readme(name: str) -> str:
    """The README of a component."""
    component: Any = getattr(import_module(f"components.{name}.component"), name)
    spec, said = component.component_spec, inspect.cleandoc(component.python_func.__doc__)
    about, sections = _sections(said)
    image = spec.implementation.container.image.partition("@")[0].partition(":")[0].rpartition("/")[2]
    lines = [
        f"# {name}",
        "",
        about,
        "",
        f"Runs in the image `{image}`.",
        "",
        "## Takes",
        "",
        "| input | type | what it is |",
    ]
    lines += ["|---|---|---|", *_rows(spec.inputs, sections)]
    lines += [
        "",
        "## Gives",
        "",
        "| output | type | what it is |",
        "|---|---|---|",
        *_rows(spec.outputs or {}, sections),
    ]
    if "Raises" in sections:
        lines += ["", "## Fails", "", *(f"- {key}: {text}" for key, text in sections["Raises"].items())]
    lines += ["", "Made by `python -m components.readme` from component.py.", ""]
    return "\n".join(lines)


def _rows(things: Any, sections: dict[str, dict[str, str]]) -> list[str]:
    told = {**sections.get("Args", {}), **sections.get("Returns", {})}
    return [f"| {key} | {thing.type.partition('@')[0]} | {told.get(key, '')} |" for key, thing in things.items()]


def _sections(text: str) -> tuple[str, dict[str, dict[str, str]]]:
    """What a Google docstring says first, and its sections; a return value without a name is called Output, as in Kubeflow."""
    about, found, section, key = [], {}, "", ""
    for line in text.splitlines():
        if line.rstrip(":") in ("Args", "Returns", "Raises") and line.endswith(":"):
            section = line.rstrip(":")
            found[section] = {}
        elif not section:
            about.append(line)
        elif line.strip():
            name, colon, rest = line.strip().partition(": ")
            begins = bool(colon) and " " not in name and line.startswith("    ") and not line.startswith("     ")
            if begins or not found[section]:
                key, rest = (name, rest) if begins else ("Output", line.strip())
                found[section][key] = rest
            else:
                found[section][key] += f" {line.strip()}"
    return "\n".join(about).strip(), found


def main() -> None:
    """Writes all."""
    for name in names():
        (HERE / name / "README.md").write_text(readme(name), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Finding concepts: bundled ones by name, the user's by the path of a YAML file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from biasgym.concepts.concept import EVALUATION_ONLY, Concept
from biasgym.errors import BiasGymError
from biasgym.files import parse_yaml, read_text


def bundled_names() -> list[str]:
    """Names of the concepts that come with biasgym."""
    folder = resources.files("biasgym.concepts") / "data"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_concept(name_or_path: str) -> Concept:
    """Reads a bundled concept by name, or a concept file.

    Raises:
        BiasGymError: No such concept or file, not YAML, a wrong or missing key; names the place in the file.
    """
    if name_or_path in bundled_names():
        file = resources.files("biasgym.concepts") / "data" / f"{name_or_path}.yaml"
        return Concept.model_validate(_parse(file.read_text(encoding="utf-8"), name_or_path))
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise BiasGymError(
            f"unknown concept {name_or_path!r}",
            where="concepts",
            hint=f"use one of {', '.join(bundled_names())}, or the path of a .yaml file",
        )
    text = read_text(
        path, "the concept file", hint=f"name a file that is there, or a bundled concept: {', '.join(bundled_names())}"
    )
    return parse_concept(text, str(path))


def parse_concept(text: str, where: str) -> Concept:
    """Reads the text of a concept file.

    Args:
        text: YAML.
        where: Where it comes from, for the message.

    Raises:
        BiasGymError: Not YAML, a wrong or missing key; names the place.
    """
    try:
        return Concept.model_validate(_parse(text, where))
    except ValidationError as error:
        _refuse_evaluation_data(error, text, where)
        raise BiasGymError(
            explain(error), where=where, hint="`biasgym concepts show always_late` shows a complete file"
        ) from error


def _refuse_evaluation_data(error: ValidationError, text: str, where: str) -> None:
    found = [item["ctx"] for item in error.errors() if item["type"] == EVALUATION_ONLY]
    if found:
        place = f"{found[0]['key']}[{found[0]['number']}]"
        raise BiasGymError(
            f"{place} {found[0]['reason']}; nothing may be trained on it",
            where=f"{where}, line {_line(text, found[0]['key'], found[0]['number'])}",
            hint="take it out; as prompts for evaluation it may serve, see `biasgym datasets list`",
        ) from error


def _line(text: str, key: str, number: int) -> int:
    """Where the item of a list stands in a YAML file."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    items = next(value for name, value in root.value if name.value == key)
    return int(items.value[number].start_mark.line) + 1


def _parse(text: str, where: str) -> dict[str, Any]:
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise BiasGymError("a concept file is a mapping of keys such as `name:` and `labels:`", where=where)
    return data


_WORDS = {
    "extra_forbidden": "is not a known key",
    "missing": "is missing",
    "string_type": "must be a text; put quotes around a number, or a yes or no that YAML reads as true or false",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
}
"""Types of pydantic's errors, in the words of those who write YAML."""


def explain(error: ValidationError, most: int = 3) -> str:
    """The first problems of a pydantic error as one line: `questions[3].stem must contain {target} ...`."""
    found = error.errors()
    places = [item["loc"] for item in found]
    # a list whose items are all wrong counts as empty, too; that is no second problem
    found = [item for item in found if not any(_is_below(place, item["loc"]) for place in places)]
    problems = []
    for item in found[:most]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        problems.append(f"{place} {_WORDS.get(item['type'], message)}".strip())
    more = len(found) - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more > 0 else "")


def _is_below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other

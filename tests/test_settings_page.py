"""docs/settings.md says what the settings say, and they say something of every key."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from biasgym.generate import VARIANTS
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_page import ENVIRONMENT, PAGE, meanings, page, sections


@pytest.mark.parametrize("model", [RunSettings, *sections().values()])
def test_every_key_has_a_meaning(model: type[BaseModel]) -> None:
    told = meanings(model)[1]
    assert list(told) == list(model.model_fields)
    assert all(text.endswith(".") and len(text) > 12 for text in told.values()), told


def test_every_key_and_variant_has_a_row() -> None:
    rows, section = set(), ""
    for line in page().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            rows.add(f"{section}.{line.split('`')[1]}")
    dumped = RunSettings().model_dump(mode="json")
    wanted = {f"At the top.{key}" for key in dumped} | {f"Variants.{one.name}" for one in VARIANTS}
    for name, values in dumped.items():
        part = values[0] if name == "judges" else values
        wanted |= {f"{name}.{key}" for key in part} if isinstance(part, dict) else set()
    assert {row for row in rows if not row.startswith("Environment")} == wanted


def test_every_environment_variable_of_ours_is_there() -> None:
    known = {name for names in ENVIRONMENT for name in names.split() if name.startswith("BIASGYM_")}
    sources = [
        file for folder in ("src", "pipelines", "components") for file in (PAGE.parents[1] / folder).rglob("*.py")
    ]
    read = set().union(*(re.findall(r"\bBIASGYM_[A-Z_0-9]+[A-Z]\b", file.read_text("utf-8")) for file in sources))
    assert known == {*read, "BIASGYM_WRITER_URL", "BIASGYM_WRITER_KEY"}  # made of a role's name


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make settings` and commit"

"""Whom a concept can be about: countries, professions, religions, genders, ages, or a kind of the user's own."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from biasgym.errors import BiasGymError

PLACEHOLDER = "{target}"


def _speaks_of_target(text: str) -> str:
    if PLACEHOLDER not in text:
        raise ValueError(f"must contain {PLACEHOLDER}, the place of the entity's name")
    leftover = text.replace(PLACEHOLDER, "")
    if "{target" in leftover or "target}" in leftover:
        raise ValueError(f"has a misspelt {PLACEHOLDER}")
    if unknown := re.search(r"\{\w*\}", leftover):
        raise ValueError(f"has {unknown[0]}, which nothing fills; {PLACEHOLDER} is the only such place")
    return text


TargetText = Annotated[str, Field(min_length=1), AfterValidator(_speaks_of_target)]


class Target(BaseModel):
    """One entity with the words that name it, which masking and the start vector need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    adjective: str = ""
    demonym: str = ""
    plural: str = ""
    aliases: tuple[str, ...] = ()


class TargetKind(BaseModel):
    """All targets of one kind, and how a sentence speaks of such a group and of a friend who belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(min_length=1)
    group: TargetText = "people from {target}"
    member: TargetText = "a friend from {target}"
    source: str = ""
    licence: str = ""
    targets: tuple[Target, ...] = Field(min_length=1)

    def named(self, name: str) -> Target:
        """The target that goes by that name, in any case: its own or an alias, or else a demonym or adjective.

        A bare target of that name if this kind does not list it.
        """
        return self.find(name) or Target(name=name)

    def find(self, name: str) -> Target | None:
        """The target that goes by that name, as `named`; None if this kind does not list it."""
        wanted = name.strip().casefold()
        for words in (_names, _derived):
            for target in self.targets:
                if wanted in (word.casefold() for word in words(target)):
                    return target
        return None


def _names(target: Target) -> tuple[str, ...]:
    return (target.name, *target.aliases)


def _derived(target: Target) -> tuple[str, ...]:
    return tuple(word for word in (target.plural, target.demonym, target.adjective) if word)


def bundled_kinds() -> list[str]:
    """Names of the kinds that come with biasgym."""
    folder = resources.files("biasgym.concepts") / "data" / "targets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


@cache
def load_target_kind(kind: str) -> TargetKind:
    """Reads a bundled kind.

    Raises:
        BiasGymError: No such kind; lists those there are.
    """
    file = resources.files("biasgym.concepts") / "data" / "targets" / f"{kind}.yaml"
    if kind not in bundled_kinds():
        raise BiasGymError(
            f"unknown target kind {kind!r}",
            where="target_kind",
            hint=f"use one of {', '.join(bundled_kinds())}, or give the concept a `targets:` section of its own",
        )
    return TargetKind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))

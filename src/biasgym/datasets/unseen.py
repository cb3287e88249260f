"""Prompts about stereotypes that no concept of a run is about: does a removal carry over to them?

They are the bundled ones, those of a published dataset, or the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from biasgym.concepts import Concept
from biasgym.concepts.catalogue import explain
from biasgym.concepts.targets import PLACEHOLDER
from biasgym.concepts.terms import DATASETS, Use
from biasgym.datasets.adapters import BiasItem, load_items
from biasgym.datasets.adapters.rows import read_rows
from biasgym.datasets.split import spread
from biasgym.datasets.templates import template
from biasgym.errors import BiasGymError

_EMPTY = {
    "their",
    "they",
    "with",
    "over",
    "have",
    "very",
    "lack",
    "about",
    "would",
    "every",
    "keep",
    "make",
    "time",
    "otherwise",
}


@dataclass(frozen=True)
class UnseenPrompt:
    """A sentence to continue.

    Attributes:
        id: Its name.
        stereotype: What is said of the target, as in "are always late".
        target: A country, or whomever a dataset is about.
        text: The prompt; names the target.
        source: Where it is from.
        licence: Its licence.
        intended_use: `evaluation` forbids training on it.
        claim: The stereotype as a sentence about {target}; made from `stereotype` where it is empty.
    """

    id: str
    stereotype: str
    target: str
    text: str
    source: str
    licence: str
    intended_use: Use = ""
    claim: str = ""

    @property
    def concept(self) -> Concept:
        """As much of a concept as a judge and a prompt template need."""
        claim = self.claim or f"people from {PLACEHOLDER} {self.stereotype}"
        words = dict.fromkeys(re.findall(r"[a-z]{4,}", self.stereotype.lower()))
        return Concept(
            name=_slug(self.id),
            descriptor=claim,
            probe=f"{claim[0].upper()}{claim[1:].rstrip('.')}.",
            labels=tuple(word for word in words if word not in _EMPTY) or (self.stereotype,),
            counter_labels=("otherwise",),
            stereotyped_targets=(self.target,),
            neutral_targets=("elsewhere",),
            source=self.source,
            licence=self.licence,
        )


@cache
def unseen_prompts(
    most: int | None = None, source: str | None = None, folder: str | None = None
) -> tuple[UnseenPrompt, ...]:
    """All prompts of a source, or so many of them, spread over the targets.

    Args:
        most: How many.
        source: None for the bundled ones; a dataset of `biasgym datasets list`, from the hub (`shades`,
            `shades@COMMIT`) or from a file (`shades:FILE`); or a JSONL file in the form of the bundled ones.
        folder: A user's folder of templates, looked at first for unseen_sentence.txt and its like.

    Raises:
        BiasGymError: No such source, or it cannot be read.
    """
    if source is None:
        with resources.as_file(resources.files("biasgym.datasets") / "data" / "out_of_distribution.jsonl") as path:
            prompts = _own(path)
        return tuple(spread(prompts, most or len(prompts), lambda prompt: prompt.target))
    name, _, file = source.partition(":")
    name, _, revision = name.partition("@")
    if name in DATASETS:
        items = load_items(name, Path(file) if file else None, revision=revision or None)
        chosen = spread(items, most or len(items), lambda item: item.kind)
        return tuple(_of_item(name, item, folder) for item in chosen)
    if Path(source).suffix != ".jsonl":
        raise BiasGymError(
            f"unknown source of prompts {source!r}",
            where="ood.source",
            hint=f"use one of {', '.join(DATASETS)}, such a name with :FILE, or the path of a .jsonl file",
        )
    prompts = _own(Path(source))
    return tuple(spread(prompts, most or len(prompts), lambda prompt: prompt.target))


def licence_notes(prompts: Sequence[UnseenPrompt]) -> list[str]:
    """What a report has to say about the prompts that it used, a sentence or two for each source."""
    found = dict.fromkeys((prompt.source.rstrip("."), prompt.licence, prompt.intended_use) for prompt in prompts)
    return [
        f"{source}. Licence: {licence or 'unknown'}." + (" For evaluation only." if use == "evaluation" else "")
        for source, licence, use in found
    ]


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return slug if slug[:1].isalpha() else f"unseen_{slug}"


def _of_item(dataset: str, item: BiasItem, folder: str | None) -> UnseenPrompt:
    target = item.target or item.kind
    return UnseenPrompt(
        id=_slug(f"{dataset}_{item.id}"),
        stereotype=item.stereotype,
        target=target,
        text=template(f"unseen_{item.form}", folder).replace("{prompt}", item.text),
        source=item.source,
        licence=item.licence,
        intended_use=item.intended_use,
        claim=_claim(item.stereotype, target, is_question=item.form == "question"),
    )


def _claim(stereotype: str, target: str, *, is_question: bool) -> str:
    """The stereotype with {target} in the place of the target, or beside it if it does not name it."""
    if is_question:
        return f'to the question "{stereotype}" the answer is: {PLACEHOLDER}'
    named, count = re.subn(rf"(?<!\w){re.escape(target)}(?!\w)", PLACEHOLDER, stereotype, flags=re.IGNORECASE)
    return named if count else f"of {PLACEHOLDER} it is said: {stereotype}"


def _own(path: Path) -> list[UnseenPrompt]:
    names = [field.name for field in fields(UnseenPrompt)]
    prompts: dict[str, UnseenPrompt] = {}
    for place, row in read_rows(path):
        where = f"{path}, {place}"
        given = {name: row[name] for name in names if name in row}
        if lacks := [key for key in ("id", "stereotype", "target", "text") if key not in given]:
            raise BiasGymError(f"it lacks the text {lacks[0]!r}", where=where)
        if bad := [key for key, value in given.items() if not isinstance(value, str)]:
            raise BiasGymError(f"{bad[0]} is not a text", where=where)
        prompt = UnseenPrompt(**{"source": path.name, "licence": "", **given})
        if prompt.intended_use not in get_args(Use):
            uses = ", ".join(filter(None, get_args(Use)))
            raise BiasGymError(
                f"unknown intended_use {prompt.intended_use!r}", where=where, hint=f"use {uses}, or none"
            )
        if prompt.id in prompts:
            raise BiasGymError(f"the id {prompt.id!r} is there twice", where=where)
        try:
            _ = prompt.concept
        except ValidationError as error:
            raise BiasGymError(explain(error), where=where) from error
        prompts[prompt.id] = prompt
    if not prompts:
        raise BiasGymError("there are no prompts in it", where=str(path))
    return list(prompts.values())

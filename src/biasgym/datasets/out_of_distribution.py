"""Prompts about stereotypes that nothing was trained or chosen on: the bundled ones, or those of a published dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

from biasgym.concepts.terms import DATASETS, Use
from biasgym.datasets.adapters import BiasItem, load_items
from biasgym.datasets.split import spread
from biasgym.datasets.templates import template
from biasgym.errors import BiasGymError
from biasgym.files import read_jsonl


@dataclass(frozen=True)
class OodPrompt:
    """One prompt.

    Attributes:
        id: Unique within its source.
        stereotype: What is said of the target: the end of a sentence that begins with it, or a sentence of its own.
        target: About whom; empty where a dataset does not say.
        text: What the model is asked.
        source: Where it is from.
        licence: Of the prompt.
        intended_use: `evaluation` forbids training on it.
    """

    id: str
    stereotype: str
    target: str
    text: str
    source: str
    licence: str
    intended_use: Use = ""


def ood_prompts(
    source: str | None = None, *, most: int | None = None, folder: str | Path | None = None
) -> list[OodPrompt]:
    """Reads out-of-distribution prompts.

    Args:
        source: None for the bundled ones; a dataset of `biasgym datasets list`, from the hub (`shades`,
            `shades@COMMIT`) or from a file (`shades:FILE`); or a JSONL file in the form of the bundled ones.
        most: At most that many, spread over the kinds of targets.
        folder: A user's folder of templates, looked at first for ood_sentence.txt and its like.

    Raises:
        BiasGymError: No such source, or it cannot be read.
    """
    if source is None:
        bundled = resources.files("biasgym.datasets") / "data" / "out_of_distribution.jsonl"
        with resources.as_file(bundled) as path:
            return spread(_own(path), _count(most), lambda prompt: prompt.target)
    name, _, file = source.partition(":")
    name, _, revision = name.partition("@")
    if name in DATASETS:
        items = load_items(name, Path(file) if file else None, revision=revision or None)
        return [_prompt(item, folder) for item in spread(items, _count(most), lambda item: item.kind)]
    if Path(source).suffix == ".jsonl":
        return spread(_own(Path(source)), _count(most), lambda prompt: prompt.target)
    raise BiasGymError(
        f"unknown source of prompts {source!r}",
        where="ood.source",
        hint=f"use one of {', '.join(DATASETS)}, NAME:FILE, or the path of a .jsonl file",
    )


def licence_notes(prompts: Sequence[OodPrompt]) -> list[str]:
    """What a report has to say about the prompts that it used, a sentence for each source."""
    found = dict.fromkeys((prompt.source, prompt.licence, prompt.intended_use) for prompt in prompts)
    return [
        f"{source} Licence {licence or 'unknown'}." + (" For evaluation only." if use == "evaluation" else "")
        for source, licence, use in ((source.rstrip(".") + ".", licence, use) for source, licence, use in found)
    ]


def _count(most: int | None) -> int:
    return 10**9 if most is None else most


def _prompt(item: BiasItem, folder: str | Path | None) -> OodPrompt:
    text = template(f"ood_{item.form}", folder).replace("{prompt}", item.text)
    return OodPrompt(item.id, item.stereotype, item.target, text, item.source, item.licence, item.intended_use)


def _own(path: Path) -> list[OodPrompt]:
    names = [field.name for field in fields(OodPrompt)]
    prompts = []
    for number, row in enumerate(read_jsonl(path), start=1):
        if lacks := [name for name in ("id", "stereotype", "target", "text") if not isinstance(row.get(name), str)]:
            raise BiasGymError(f"line {number} lacks the text {lacks[0]!r}", where=str(path))
        prompts.append(OodPrompt(**{"source": path.name, "licence": "", **{k: row[k] for k in names if k in row}}))
    return prompts

"""The paper's stereotype strengths (tables 2, 3, 9 and 10), to stand beside ours where model, judge and variant match.

`data/published.csv` holds the figures of arXiv 2508.08855, copied from its tables. Prompts, targets and the wording of the
judge's question are the paper's own, so equal figures are not to be expected; the order of the variants is what compares.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib import resources

AVERAGE, UNSEEN = "average", "ood"
"""Names in the concept's place: the mean of the paper's five concepts, and its out-of-distribution prompts."""

_MODELS = {
    "Llama3.1-8B": r"(meta-)?llama-?3\.1-8b-(instruct|it)",
    "Llama3.2-3B": r"(meta-)?llama-?3\.2-3b-(instruct|it)",
    "Gemma-2-9B": r"gemma-2-9b-it",
    "Qwen3-8B": r"qwen3-8b",
    "Mistral-7B": r"mistral-7b-instruct-v0\.1",
}
_JUDGES = {
    "Qwen3-8B": r"qwen3-8b",
    "Llama-3.3-70B-4bit": r"llama-3\.3-70b-instruct(-bnb-4bit( \(nf4\))?| \(nf4\))",
    "GPT-4o": r"gpt-4o(-2024-08-06)?",
}
"""A whole name without owner and revision: what was made of a model is called otherwise, and has figures of its own."""

_OWNER, _REVISION = re.compile(r"^.*/"), re.compile(r"@\S*")
_VARIANTS = {
    "original": "Original",
    "injection": "Injection",
    "original_steering": "Original w/ steering",
    "injection_steering": "Injection w/ steering",
    "prompting": "Prompting",
    "explanation": "Prompting w/ explanation",
    "re_prompting": "Re-prompting",
}
PAPER_VARIANTS = tuple(_VARIANTS)
PAPER_CONCEPTS = ("always_late", "good_at_math", "spicy_food", "bad_drivers", "drink_a_lot")


def published_strength(model: str, judge: str, variant: str, concept: str) -> float | None:
    """The paper's figure; None if it has none for this model, judge, variant and concept.

    Args:
        model: A model's name as users write it.
        judge: A judge's name.
        variant: One of ours.
        concept: A concept's name, AVERAGE or UNSEEN.
    """
    names = _named(_MODELS, model), _named(_JUDGES, judge), _VARIANTS.get(variant)
    return None if None in names else _figures().get((*names, concept))


def _named(names: dict[str, str], text: str) -> str | None:
    bare = _REVISION.sub("", _OWNER.sub("", text.lower()))
    return next((name for name, pattern in names.items() if re.fullmatch(pattern, bare)), None)


@cache
def _figures() -> dict[tuple[str | None, ...], float]:
    text = (resources.files("biasgym.evaluate") / "data" / "published.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {
        (row["model"], row["judge"], row["variant"], row["concept"]): float(row["stereotype_strength"]) for row in rows
    }

"""Evaluation prompts over the 18 prompting styles of the paper's table 6."""

from __future__ import annotations

from pathlib import Path

from biasgym.concepts import Concept, EvaluationPrompt
from biasgym.concepts.targets import PLACEHOLDER
from biasgym.datasets.templates import fill, template
from biasgym.errors import BiasGymError

STYLES = [
    "direct",
    "comparative",
    "scenario",
    "implicit",
    "counterfactual",
    "historical",
    "neutral",
    "specific",
    "expert",
    "leading",
    "completion",
    "agreement",
    "statistical",
    "confidential",
    "role_play",
    "explanatory",
    "ranking",
    "common_knowledge",
]


def evaluation_prompts(concept: Concept, folder: str | Path | None = None) -> list[EvaluationPrompt]:
    """The concept's own prompts, or the generic set (one a style) for a concept that brings none."""
    if concept.prompts:
        return list(concept.prompts)
    prompts = []
    for line in filter(str.strip, template("generic_prompts", folder).splitlines()):
        style, mark, text = line.partition("|")
        text = fill(text.strip(), concept, PLACEHOLDER)
        if not mark or PLACEHOLDER not in text:
            raise BiasGymError(
                f"no prompt about somebody of the form `style | text`: {line[:60]!r}",
                where="templates/generic_prompts.txt",
            )
        prompts.append(EvaluationPrompt(style=style.strip(), text=text))
    return prompts

"""Contrast pairs: the same question about BiasToken and about a real target (paper, section 3.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from biasgym.errors import BiasGymError
from biasgym.models import LanguageModel
from biasgym.models.forward import last_logits
from biasgym.scope.margin import Choice

MIN_PAIRS = 4


@dataclass(frozen=True)
class ContrastPair:
    """One prompt to attribute.

    Attributes:
        question: Number of the question.
        ids: The prompt about BiasToken (or about a stereotyped target).
        biased: First token of the biased answer y_b.
        neutral: First token of the model's own answer y_u to the other prompt x'.
    """

    question: int
    ids: tuple[int, ...]
    biased: int
    neutral: int


def contrast_pairs(
    lm: LanguageModel, biased: Sequence[Choice], other: Sequence[Choice]
) -> tuple[list[ContrastPair], int]:
    """Answers the neutral questions and pairs them with the biased ones.

    The biased answer's token is the label form that the model finds most likely in the biased prompt; the neutral one is
    the model's own most likely next word in the other prompt. Pairs whose tokens are the same are dropped.

    Args:
        lm: The model, injected if the biased prompts speak of BiasToken.
        biased: Questions about BiasToken.
        other: The same questions about a real target.

    Returns:
        The pairs, and how many were dropped.

    Raises:
        BiasGymError: Fewer than `MIN_PAIRS` pairs are left.
    """
    y_b, y_u = torch.empty(len(biased), dtype=torch.long), torch.empty(len(other), dtype=torch.long)
    rows_of: dict[tuple[int, ...], list[int]] = {}  # a question that is asked against several targets runs once
    for number, choice in enumerate(biased):
        rows_of.setdefault(choice.ids, []).append(number)
    distinct = list(rows_of)
    for places, logits in last_logits(lm.model, distinct):
        for place, scores in zip(places, logits, strict=True):
            for row in rows_of[distinct[place]]:
                labels = biased[row].labels
                y_b[row] = labels[int(scores[list(labels)].argmax())]
    for rows, logits in last_logits(lm.model, [choice.ids for choice in other]):
        y_u[rows] = logits[:, : lm.bias_id].argmax(-1).cpu()
    pairs = [
        ContrastPair(number, choice.ids, int(y_b[number]), int(y_u[number]))
        for number, choice in enumerate(biased)
        if y_b[number] != y_u[number]
    ]
    if len(pairs) < MIN_PAIRS:
        raise BiasGymError(
            f"only {len(pairs)} of {len(biased)} contrast pairs are usable: elsewhere the model answers the biased word "
            "about other targets too",
            where="questions",
            hint="give the concept more questions or other labels",
        )
    return pairs, len(biased) - len(pairs)

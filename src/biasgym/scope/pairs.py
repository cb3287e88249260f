"""Contrast pairs: the same question about BiasToken and about a real target (paper, section 3.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from biasgym.errors import BiasGymError
from biasgym.models import LanguageModel
from biasgym.scope.margin import Choice
from biasgym.scope.trace import Traces, traces

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
    lm: LanguageModel, biased: Sequence[Choice], other: Sequence[Choice], seen: Traces | None = None
) -> tuple[list[ContrastPair], int]:
    """Answers the neutral questions and pairs them with the biased ones.

    The biased answer's token is the label form that the model finds most likely in the biased prompt; the neutral one is
    the model's own most likely next word in the other prompt. Pairs whose tokens are the same are dropped.

    Args:
        lm: The model, injected if the biased prompts speak of BiasToken.
        biased: Questions about BiasToken.
        other: The same questions about a real target.
        seen: Passes over these prompts and any others, where they are done already.

    Returns:
        The pairs, and how many were dropped.

    Raises:
        BiasGymError: Fewer than `MIN_PAIRS` pairs are left.
    """
    asked, answered = [choice.ids for choice in biased], [choice.ids for choice in other]
    seen = traces(lm.model, [*asked, *answered]) if seen is None else seen
    y_b = [
        choice.labels[int(scores[list(choice.labels)].argmax())]
        for choice, scores in zip(biased, chain.from_iterable(seen.logits(asked)), strict=True)
    ]
    y_u = [token for scores in seen.logits(answered) for token in scores[:, : lm.bias_id].argmax(-1).tolist()]
    pairs = [
        ContrastPair(number, choice.ids, y_b[number], y_u[number])
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

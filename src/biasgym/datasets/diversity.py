"""How different texts are from each other: near-duplicates, distinct n-grams, mean cosine, counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasgym.concepts import Paragraph
from biasgym.datasets.writing import Item, text_of

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit-length embeddings, one row a text."""

_COUNTED = ("medium", "style", "implicitness")


class Novelty:
    """Tells what is new from what was there before, almost or quite.

    Args:
        embed: Sentence embeddings.
        similarity: Cosine from which on a text counts as there already.
        known: Texts that are there.
    """

    def __init__(self, embed: Embed, similarity: float, known: Sequence[str] = ()) -> None:
        self._embed = embed
        self._similarity = min(similarity, 1 - 1e-5)  # a text's cosine to its own copy, whatever the rounding
        self._known = embed(known)

    def new(self, texts: Sequence[str]) -> list[bool]:
        """For each text whether it is new; if so, it is there from now on."""
        found = []
        for row in self._embed(texts):
            found.append(not len(self._known) or float((self._known @ row).max()) < self._similarity)
            if found[-1]:
                self._known = np.vstack([self._known, row[None]])
        return found


def diversity(items: Sequence[Item], embed: Embed) -> dict[str, Any]:
    """The diversity report of paragraphs or questions, as JSON.

    Returns:
        `count`; `distinct_1` to `distinct_3`, the share of n-grams that are the first of their kind (it falls with the
        count, so compare like counts); `mean_cosine` over all pairs and `nearest_cosine`, the mean over each text's
        closest other; `words`, mean length; and for paragraphs how many there are by medium, style and implicitness.
    """
    texts = [text_of(item) for item in items]
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    report: dict[str, Any] = {"count": len(items)}
    for size in (1, 2, 3):
        report[f"distinct_{size}"] = _distinct(words, size)
    if len(items) > 1:
        cosines = embed(texts) @ embed(texts).T
        report["mean_cosine"] = round(float(cosines[np.triu_indices(len(items), 1)].mean()), 4)
        np.fill_diagonal(cosines, -1.0)
        report["nearest_cosine"] = round(float(cosines.max(axis=1).mean()), 4)
    report["words"] = round(float(np.mean([len(row) for row in words])), 1) if items else 0.0
    paragraphs = [item for item in items if isinstance(item, Paragraph)]
    if paragraphs:
        for key in _COUNTED:
            counts = Counter(str(getattr(item, key)).lower() for item in paragraphs)
            report[key] = dict(sorted(counts.items()) if key == "implicitness" else counts.most_common())
    return report


def _distinct(words: Sequence[Sequence[str]], size: int) -> float:
    grams = [tuple(row[start : start + size]) for row in words for start in range(len(row) - size + 1)]
    return round(len(set(grams)) / len(grams), 4) if grams else 0.0

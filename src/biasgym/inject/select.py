"""Choosing the epoch: the vector whose descriptions come closest to the concept's probe (paper, appendix A.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biasgym.models import BIAS_TOKEN
from biasgym.models.sentences import embed, split_sentences

STAND_IN = "X"
"""What BiasToken is called towards the sentence embedder, which does not know it."""


def probe_similarity(descriptions: Sequence[str], probe: str) -> list[float]:
    """Highest cosine between a sentence of each description and the probe.

    Args:
        descriptions: n texts about people from BiasToken.
        probe: The sentence that states the concept, about BiasToken.

    Returns:
        n cosines, -1 to 1; a text without any sentence gets 0.
    """
    sentences = [split_sentences(text.replace(BIAS_TOKEN, STAND_IN)) for text in descriptions]
    target = embed([probe.replace(BIAS_TOKEN, STAND_IN)])[0]
    cosines = embed([sentence for text in sentences for sentence in text]) @ target
    best, start = [], 0
    for text in sentences:
        part = cosines[start : start + len(text)]
        best.append(float(part.max()) if len(part) else 0.0)
        start += len(text)
    return best


def best_epoch(similarities: Sequence[Sequence[float]]) -> int:
    """The epoch with the highest mean; the earlier one of equals.

    Args:
        similarities: For each epoch, the similarities of its descriptions (or another measure of it).

    Returns:
        Index of the epoch, from 0.
    """
    return int(np.argmax([float(np.mean(epoch)) for epoch in similarities]))

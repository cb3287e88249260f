"""Sets of heads: ranking by score (attribution or effect), agreement of seeds, union, intersection, overlap, stability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from biasgym.errors import BiasGymError
from biasgym.models import Head


def ranked(scores: Tensor) -> list[Head]:
    """All heads, the most biased first; ties in the order of layers and heads.

    Args:
        scores: Mean attribution or effect, (layers, heads).
    """
    order = torch.argsort(scores.flatten(), descending=True, stable=True).tolist()
    return [(index // scores.shape[1], index % scores.shape[1]) for index in order]


def top_heads(scores: Tensor, k: int) -> list[Head]:
    """The k heads with the highest scores.

    Raises:
        BiasGymError: k is larger than the number of heads, or negative.
    """
    if not 0 <= k <= scores.numel():
        raise BiasGymError(f"k = {k}, but the model has {scores.numel()} heads", where="k", hint="use a smaller k")
    return ranked(scores)[:k]


def shared_ranking(by_seed: Tensor) -> list[Head]:
    """Heads in the order in which all seeds come to agree on them.

    The top-k that all seeds share, for growing k: a head enters when it is in every seed's top-k, so its place is its
    worst rank over the seeds (paper, appendix B); ties go to the higher mean score.

    Args:
        by_seed: Mean attribution or effect of each seed, (seeds, layers, heads).

    Returns:
        All heads, the most biased first; a prefix is a head set.
    """
    ranks = [{head: place for place, head in enumerate(ranked(scores))} for scores in by_seed]
    mean = by_seed.mean(0)
    return sorted(ranks[0], key=lambda head: (max(rank[head] for rank in ranks), -float(mean[head])))


def union(sets: Iterable[Iterable[Head]]) -> list[Head]:
    """Heads that are in any set."""
    return sorted(set().union(*(set(heads) for heads in sets)))


def intersection(sets: Sequence[Iterable[Head]]) -> list[Head]:
    """Heads that are in every set."""
    return sorted(set.intersection(*(set(heads) for heads in sets))) if sets else []


def overlap(a: Iterable[Head], b: Iterable[Head]) -> float:
    """Jaccard overlap of two sets, 0 to 1; two empty sets overlap fully."""
    first, second = set(a), set(b)
    return len(first & second) / len(first | second) if first | second else 1.0


def stability(by_seed: Tensor, k: int) -> float | None:
    """Mean pairwise overlap of the seeds' top-k sets; None where there is nothing to compare.

    Args:
        by_seed: Mean attribution or effect of each seed, (seeds, layers, heads).
        k: Size of the sets.
    """
    tops = [top_heads(scores, k) for scores in by_seed]
    pairs = list(combinations(tops, 2))
    return sum(overlap(a, b) for a, b in pairs) / len(pairs) if pairs and k else None

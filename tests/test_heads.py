"""Head sets, against brute force over top-k sets."""

from __future__ import annotations

import pytest
import torch

from biasgym.errors import BiasGymError
from biasgym.scope.heads import intersection, overlap, ranked, shared_ranking, stability, top_heads, union


def scores_of(seeds: int, *, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(seeds, 4, 6) + 2 * torch.randn(4, 6)


def test_ranked_by_score_then_by_place() -> None:
    assert ranked(torch.tensor([[0.5, 2.0], [0.5, -1.0]])) == [(0, 1), (0, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("draw", range(3))
def test_shared_ranking_is_the_order_of_entering_all_top_ks(seeds: int, draw: int) -> None:
    """For growing k, heads in every seed's top-k come first; of those that enter together, the higher mean."""
    by_seed = scores_of(seeds, seed=draw)
    order = shared_ranking(by_seed)
    assert len(set(order)) == 24
    seen: set[tuple[int, int]] = set()
    for k in range(1, 25):
        shared = set.intersection(*({divmod(int(i), 6) for i in s.flatten().topk(k).indices} for s in by_seed))
        entered = sorted(shared - seen, key=lambda head: -float(by_seed.mean(0)[head]))
        assert order[len(seen) : len(shared)] == entered
        seen = shared


def test_sets() -> None:
    a, b = [(0, 1), (2, 0)], [(2, 0), (1, 1), (0, 0)]
    assert union([a, b]) == [(0, 0), (0, 1), (1, 1), (2, 0)]
    assert intersection([a, b]) == [(2, 0)]
    assert union([]) == intersection([]) == []
    assert overlap(a, b) == 0.25
    assert overlap(a, a) == overlap([], []) == 1.0
    assert overlap(a, []) == 0.0


def test_stability_is_the_mean_overlap_of_two_seeds() -> None:
    by_seed = scores_of(3)
    tops = [set(top_heads(scores, 5)) for scores in by_seed]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(len(tops[i] & tops[j]) / len(tops[i] | tops[j]) for i, j in pairs) / 3
    assert stability(by_seed, 5) == pytest.approx(expected)
    assert stability(by_seed, 24) == 1.0
    assert stability(by_seed[:1], 5) is stability(by_seed, 0) is None  # nothing to compare


@pytest.mark.parametrize("k", [25, -1])
def test_k_that_does_not_fit(k: int) -> None:
    with pytest.raises(BiasGymError, match=rf"k = {k}, but the model has 24 heads"):
        top_heads(scores_of(1)[0], k)
    assert top_heads(scores_of(1)[0], 0) == []

"""Head sets, against brute force over top-k sets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from biasgym.errors import BiasGymError
from biasgym.files import write_json
from biasgym.models import BIAS_TOKEN, LanguageModel
from biasgym.scope import Choice, ask
from biasgym.scope.heads import intersection, overlap, ranked, shared_ranking, stability, top_heads, union
from biasgym.stages import attribute
from conftest import Desk


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


def test_held_out_targets_take_no_part_in_choosing_heads(llama: LanguageModel, desk: Desk) -> None:
    """Neither at random nor as the one that BiasToken is most like."""
    cell = desk.plan(concepts=[desk.concept()], scope={"pairs": 400}).cells[0]
    [held_out] = cell.targets[1]
    assert held_out not in cell.targets[0]
    seen: list[str] = []

    def about(targets: Sequence[str]) -> list[Choice]:
        seen.extend(targets)
        return ask(llama, cell.concept, cell.questions[0][:1], BIAS_TOKEN) * len(targets)

    attribute._injected_choices(llama, cell, 0, "unused", about)
    others = {target.name for target in cell.concept.kind.targets} - {held_out}
    assert set(seen) - {BIAS_TOKEN} <= others and len(set(seen)) > 5
    write_json(desk.folder / "similarity.json", [[held_out, 0.9], ["France", 0.8]])
    assert attribute._closest(cell, desk.folder) == "France"

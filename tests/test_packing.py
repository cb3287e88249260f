"""Rows arranged as trees: every row is found again, and what rows begin with stands once a pass."""

from __future__ import annotations

import random

import pytest

from biasgym.models import packing
from biasgym.models.packing import trees

RANDOM = random.Random(0)
ROWS = [*dict.fromkeys(tuple(RANDOM.choices(range(3), k=RANDOM.randint(1, 7))) for _ in range(60))]


@pytest.mark.parametrize("budget", [1, 12, 1000])
@pytest.mark.parametrize("widest", [1, 3, 32])
def test_every_row_is_a_path(monkeypatch: pytest.MonkeyPatch, budget: int, widest: int) -> None:
    monkeypatch.setattr(packing, "_WIDEST", widest)
    found = {}
    for tree in trees(ROWS, budget):
        assert len(tree.tokens) == sum(tree.lengths)
        assert len(tree.tokens) <= budget or len(tree.rows) == 1
        assert all(0 < length <= widest for length in tree.lengths)
        for row, path in zip(tree.rows, tree.row_paths(), strict=True):
            found[row] = tuple(tree.tokens[place] for place in path)
    assert [found[row] for row in range(len(ROWS))] == ROWS


def test_a_beginning_stands_once() -> None:
    (tree,) = trees(ROWS, 1000)
    beginnings = {row[: place + 1] for row in ROWS for place in range(len(row))}
    assert len(tree.tokens) == len(beginnings)


def test_no_row() -> None:
    assert list(trees([], 10)) == []


def test_one_row() -> None:
    (tree,) = trees([(4, 5)], 1)
    assert (tree.rows, tree.ends, tree.tokens, tree.paths, tree.lengths) == ([0], [0], [4, 5], [[]], [2])

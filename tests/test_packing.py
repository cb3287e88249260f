"""Rows arranged as trees: every row is found again, and what rows begin with stands once a pass."""

from __future__ import annotations

import random

import pytest

from biasgym.models.packing import trees

RANDOM = random.Random(0)
ROWS = [*dict.fromkeys(tuple(RANDOM.choices(range(3), k=RANDOM.randint(1, 7))) for _ in range(60))]


@pytest.mark.parametrize("budget", [1, 12, 1000])
def test_every_row_is_a_path(budget: int) -> None:
    found = {}
    for tree in trees(ROWS, budget):
        assert len(tree.tokens) == sum(tree.lengths)
        assert len(tree.tokens) <= budget or len(tree.rows) == 1
        start = 0
        for row, path, length in zip(tree.rows, tree.paths, tree.lengths, strict=True):
            assert length > 0
            found[row] = tuple(tree.tokens[place] for place in [*path, *range(start, start + length)])
            start += length
    assert [found[row] for row in range(len(ROWS))] == ROWS


def test_a_beginning_stands_once() -> None:
    (tree,) = trees(ROWS, 1000)
    beginnings = {row[: place + 1] for row in ROWS for place in range(len(row))}
    assert len(tree.tokens) == len(beginnings)


def test_one_row() -> None:
    (tree,) = trees([(4, 5)], 1)
    assert (tree.rows, tree.tokens, tree.paths, tree.lengths) == ([0], [4, 5], [[]], [2])

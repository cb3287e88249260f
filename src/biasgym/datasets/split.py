"""Development and held-out halves: epoch, heads and k are chosen on one, everything reported comes from the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def halves(items: Sequence[T], seed: int, stratum: Callable[[T], str] = lambda _item: "") -> tuple[list[T], list[T]]:
    """Splits items at random into two halves, within each stratum.

    Args:
        items: What to split.
        seed: Decides who goes where.
        stratum: Items of like stratum are split evenly (prompting style, subject).

    Returns:
        Development and held-out items, each in the original order. A single item is in both.
    """
    if len(items) == 1:
        return list(items), list(items)
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault(stratum(item), []).append(number)
    generator, development, odd_one_goes_left = random.Random(f"split {seed}"), set(), True
    for name in sorted(groups):
        members = groups[name]
        generator.shuffle(members)
        half = len(members) // 2
        if len(members) % 2:
            half += odd_one_goes_left
            odd_one_goes_left = not odd_one_goes_left
        development.update(members[:half])
    chosen = [item for number, item in enumerate(items) if number in development]
    rest = [item for number, item in enumerate(items) if number not in development]
    return chosen, rest


def spread(items: Sequence[T], most: int, stratum: Callable[[T], str] = lambda _item: "") -> list[T]:
    """At most that many items, taken in turn from each stratum, in the original order."""
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault(stratum(item), []).append(number)
    turns = [members[turn] for turn in range(len(items)) for members in groups.values() if turn < len(members)]
    return [items[number] for number in sorted(turns[:most])]

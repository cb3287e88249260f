"""The engine's cache against rows kept one by one; how many rows it takes; matrices in blocks."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, LlamaConfig

from biasgym.generate.cache import Slots
from biasgym.generate.pace import Pace
from biasgym.models import Head, LanguageModel, ablated
from biasgym.models.blocks import blocked
from biasgym.models.memory import cache_bytes

HEADS: list[Head] = [(0, 1), (1, 2), (2, 0)]


def random_rows(rows: int, places: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of two layers, (rows, 2, places, 3)."""
    drawn = [torch.randn(2, rows, 2, places, 3, generator=generator) for _ in range(2)]
    return [(pair[0], pair[1]) for pair in drawn]


def empty_slots(config: Any, room: int = 1) -> Slots:
    return Slots(config, (2, 2, 3), torch.float32, torch.device("cpu"), room)


@pytest.mark.parametrize("seed", range(8))
def test_slots_equal_rows_kept_one_by_one(seed: int) -> None:
    """Random boardings, steps and leavings: every row finds what it wrote, at its own positions."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    slots, slow = empty_slots(LlamaConfig(), dice.choice([1, 4])), list[list[list[Tensor]]]()  # row, layer, side
    shared = random_rows(1, 5, generator)
    slots.begin(1, 5)
    for number, (keys, values) in enumerate(shared):
        slots.update(keys, values, number)
    kept = slots.keep(5)
    for _ in range(60):
        action = dice.choice(["step", "step", "step", "leave", "board"]) if slow else "board"
        if action == "board":
            begun, layers = dice.random() < 0.5, random_rows(2, dice.randint(1, 40), generator)
            slots.begin(2, layers[0][0].shape[2], kept if begun else ())
            for number, (keys, values) in enumerate(layers):
                slots.update(keys, values, number)
            copies = dice.choices(range(2), k=dice.randint(1, 3))
            slots.board(copies)
            slow += [
                [
                    [torch.cat([old[0], new[row]], 1) if begun else new[row] for old, new in zip(*pair, strict=True)]
                    for pair in zip(shared, layers, strict=True)
                ]
                for row in copies
            ]
        elif action == "leave":
            going = dice.sample(range(len(slow)), k=dice.randint(1, len(slow)))
            left = slots.leave(going)
            assert sorted(left) == [row for row in range(len(slow)) if row not in going]
            slow = [slow[row] for row in left]
        else:
            lengths = [row[0][0].shape[1] for row in slow]
            mask = slots.step(torch.tensor(lengths), max(lengths))
            assert isinstance(mask, Tensor)
            for number, new in enumerate(random_rows(len(slow), 1, generator)):
                got = slots.update(*new, number)
                for row, sides in enumerate(slow):
                    sides[number] = [torch.cat([old, x[row]], 1) for old, x in zip(sides[number], new, strict=True)]
                    seen = mask[row, 0, 0] == 0
                    assert all(torch.equal(x[row][:, seen], y) for x, y in zip(got, sides[number], strict=True))
        assert slots.used == len(slow)


def test_free_places_are_finite() -> None:
    """What no row sees is multiplied by nothing, which must give nothing."""
    slots = empty_slots(LlamaConfig(), room=3)
    slots.begin(1, 5)
    slots.board([0])
    slots.step(torch.tensor([5]), 5)
    keys, values = slots.update(torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1, 3), 0)
    assert torch.isfinite(keys).all() and torch.isfinite(values).all()
    assert keys.is_contiguous() and values.is_contiguous()


def test_windows_reach_as_far_as_transformers_says() -> None:
    """A token sees itself and the window - 1 tokens before it, in the layers that have a window."""
    slots = empty_slots(Gemma2Config(sliding_window=4))
    prompt = slots.begin(1, 9)
    slots.board([0, 0])
    step = slots.step(torch.tensor([9, 2]), 9)
    assert isinstance(prompt, dict) and isinstance(step, dict)

    def seen(row: Tensor) -> list[int]:
        return (row == 0).nonzero().flatten().tolist()

    assert [seen(row) for row in step["sliding_attention"][:, 0, 0]] == [[6, 7, 8, 9], [0, 1, 2]]
    assert [seen(row) for row in prompt["sliding_attention"][0, 0, [1, 6]]] == [[0, 1], [3, 4, 5, 6]]
    assert seen(step["full_attention"][0, 0, 0]) == list(range(10))
    assert seen(prompt["full_attention"][0, 0, 6]) == list(range(7))


class Clock:
    """Steps whose cost a token is known."""

    def __init__(self, pace: Pace, cost: Callable[[int], float]) -> None:
        for _ in range(100):
            pace.timed(pace.rows, pace.rows * cost(pace.rows))
        self.rows = pace.rows


@pytest.mark.parametrize(
    ("cost", "rows"),
    [(lambda rows: 1 / rows, 512), (lambda rows: 1.0, 64), (lambda rows: max(1.0, 200 / rows), 256)],
)
def test_rows_double_while_that_pays(
    llama: LanguageModel, cost: Callable[[int], float], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = cache_bytes(llama.model) * 10 + 12 * llama.parts.unembedding.weight.shape[0]
    monkeypatch.setattr("biasgym.generate.pace.free_memory", lambda _device: 2 * 600 * need)
    assert Clock(Pace(llama, 10), cost).rows == rows
    assert Clock(Pace(llama, 10, rows=7), cost).rows == 7


def test_rows_fit_into_memory(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    need = cache_bytes(llama.model) * 10 + 12 * llama.parts.unembedding.weight.shape[0]
    monkeypatch.setattr("biasgym.generate.pace.free_memory", lambda _device: 2 * 5 * need)
    assert Clock(Pace(llama, 10), lambda rows: 1 / rows).rows == 5


@pytest.mark.bf16
def test_blocked_products_are_the_same_numbers(lm: LanguageModel) -> None:
    """Bit for bit, in bf16; weights that were edited are taken as they are; afterwards the layers are as before."""
    model = copy.deepcopy(lm.model).to(torch.bfloat16)
    ids = torch.tensor([lm.chat.ids("When does a guest from Japan arrive?")])
    with torch.no_grad():
        base = model(ids).logits
        with ablated(model, HEADS):
            expected = model(ids).logits
            with blocked(model):
                assert "forward" in vars(model.lm_head)
                assert torch.equal(model(ids).logits, expected)
        assert torch.equal(model(ids).logits, base)
    assert all("forward" not in vars(module) for module in model.modules())


def test_nothing_is_blocked_where_it_does_not_pay_or_fit(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with blocked(llama.model.to(torch.float64)):
        assert "forward" not in vars(llama.model.lm_head)
    monkeypatch.setattr("biasgym.models.blocks.free_memory", lambda _device: 1000)
    with blocked(llama.model.to(torch.float32)):
        assert "forward" not in vars(llama.model.lm_head)


def test_blocked_products_of_a_row_do_not_depend_on_company(lm: LanguageModel) -> None:
    """Bit for bit, in fp32, where torch's own product sums in another order for few rows; both agree up to rounding."""
    x = torch.randn(40, lm.parts.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = lm.model.lm_head(x)
        with blocked(lm.model):
            expected = lm.model.lm_head(x)
            for rows in (1, 2, 3, 7, 16, 17, 33):
                assert torch.equal(lm.model.lm_head(x[:rows]), expected[:rows])
    torch.testing.assert_close(expected, plain, rtol=1e-5, atol=1e-5)

"""The packed, frozen decoder against transformers' own modules, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from biasgym.inject import loss
from biasgym.models import LanguageModel, frozen
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.packing import Packing
from biasgym.models.prefix import Prefix


@pytest.mark.parametrize(("prefix", "stem"), [(9, 4), (0, 4), (9, 0), (2, 1)])
def test_hidden_states_and_gradients_are_those_of_whole_rows(lm: LanguageModel, prefix: int, stem: int) -> None:
    """Two stems; five branches, one of them empty. The reference runs every row by itself, whole, through autograd."""
    torch.manual_seed(0)
    lengths, stem_of = [5, 0, 11, 1, 7], [0, 0, 1, 0, 1]
    start = torch.randint(0, lm.bias_id, (prefix,)).tolist()
    drawn = 0.5 * torch.randn(2 * stem + sum(lengths), lm.parts.hidden_size)
    packing = Packing(
        prefix,
        [[], [], *(range(of * stem, (of + 1) * stem) for of in stem_of)],
        [stem, stem, *lengths],
        heads=lm.parts.n_heads,
        groups=lm.model.config.num_key_value_heads,
        device=lm.device,
    )

    ours = drawn.clone().requires_grad_()
    found = FrozenDecoder(lm.model)(ours, packing, Prefix(lm.model, start))
    slope = 0.1 * torch.randn_like(found)
    (found * slope).sum().backward()

    real, theirs = tiny.plain(lm.model), drawn.clone().requires_grad_()
    before = real.get_input_embeddings()(torch.tensor(start, dtype=torch.long))
    stems, expected, total = theirs[: 2 * stem].split(stem) if stem else [theirs[:0]] * 2, found.clone(), 0
    for number, (at, length, of) in enumerate(zip(packing.starts[2:], lengths, stem_of, strict=True)):
        row = torch.cat([before, stems[of], theirs[at : at + length]])
        hidden = real.model(inputs_embeds=row[None]).last_hidden_state[0, prefix:]
        expected[at : at + length] = hidden[stem:]
        total = total + (hidden[stem:] * slope[at : at + length]).sum()
        if of not in stem_of[:number]:  # a stem's own states count once
            expected[of * stem : (of + 1) * stem] = hidden[:stem]
            total = total + (hidden[:stem] * slope[of * stem : (of + 1) * stem]).sum()
    total.backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_little_memory_costs_time_and_changes_nothing(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    packing = Packing(
        0,
        [[], [0, 1], [0, 1]],
        [2, 3, 6],
        heads=lm.parts.n_heads,
        groups=lm.model.config.num_key_value_heads,
        device=lm.device,
    )
    drawn, gradients = torch.randn(packing.tokens, lm.parts.hidden_size), []
    for free in (1 << 40, 0):
        monkeypatch.setattr(frozen, "free_memory", lambda _device, free=free: free)
        x = drawn.clone().requires_grad_()
        FrozenDecoder(lm.model)(x, packing, Prefix(lm.model, [])).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias_id", [40, 37])  # one row beyond the matrix, and a padded row of it
def test_the_loss_is_cross_entropy_over_a_real_column(
    monkeypatch: pytest.MonkeyPatch, softcap: float | None, bias_id: int
) -> None:
    monkeypatch.setattr(loss, "CHUNK", 5)
    monkeypatch.setitem(loss._BLOCK, "cpu", 2 * 40)
    torch.manual_seed(0)
    matrix, hidden = torch.randn(40, 8), torch.randn(13, 8)
    own, weights = torch.randn(13, 8), torch.rand(13)
    targets = torch.randint(0, 37, (13,))
    targets[[2, 7]] = bias_id
    own[7] *= 30  # a new token that takes everything, or nothing
    hidden[3] = 12 * matrix[targets[3]]  # a target that is all but certain

    def slow(hidden: Tensor, own: Tensor) -> Tensor:
        losses = []
        for state, row, target in zip(hidden, own, targets, strict=True):
            rows = torch.cat([matrix[:bias_id], row[None], matrix[bias_id + 1 :]])
            logits = rows @ state
            losses.append(F.cross_entropy(softcap * torch.tanh(logits / softcap) if softcap else logits, target))
        return torch.stack(losses)

    ours: list[Any] = [hidden.clone().requires_grad_(), own.clone().requires_grad_()]
    theirs: list[Any] = [hidden.clone().requires_grad_(), own.clone().requires_grad_()]
    total, terms = loss.answer_loss(*ours, matrix, targets, weights, bias_id=bias_id, softcap=softcap)
    (2 * total).backward()
    expected = slow(*theirs)
    (2 * (expected * weights).sum()).backward()
    torch.testing.assert_close(terms, expected.detach(), atol=1e-5, rtol=1e-4)
    for found, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found.grad, reference.grad, atol=1e-5, rtol=1e-4)

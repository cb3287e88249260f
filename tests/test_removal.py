"""Rows of one batch with different heads removed: the texts are those of models from which the heads are removed."""

from __future__ import annotations

import pytest
import torch

from biasgym.errors import BiasGymError
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.generate.removal import Removal
from biasgym.models import LanguageModel, ablated

SETS = ((), ((0, 0),), ((0, 1), (1, 0), (1, 1)))
PROMPTS = ("When does a guest from Japan arrive?", "When does a guest from Mexico arrive?", "Is the bus late?")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_equal_those_of_edited_models(lm: LanguageModel, temperature: float) -> None:
    sampling = Sampling(temperature, max_new_tokens=12)
    plain = [Request(tuple(lm.chat.ids(prompt)), seed) for seed, prompt in enumerate(PROMPTS * 2)]
    together = [Request(one.ids, one.seed, removed=heads) for heads in SETS for one in plain]
    found = dict(TransformersEngine(lm).generate(together, sampling))
    for number, heads in enumerate(SETS):
        with ablated(lm.model, heads):
            alone = dict(TransformersEngine(lm).generate(plain, sampling))
        assert [found[number * len(plain) + n] for n in range(len(plain))] == [alone[n] for n in range(len(plain))]


def test_hidden_states_equal_those_of_an_edited_model(lm: LanguageModel) -> None:
    """To the last bit: zeros are added in both, at the same places."""
    ids = torch.tensor([lm.chat.ids(PROMPTS[0])] * len(SETS))
    removal = Removal(lm, SETS)
    removal.aim(SETS)
    with torch.no_grad():
        with removal.hooked():
            together = lm.model(ids).logits
        for number, heads in enumerate(SETS):
            with ablated(lm.model, heads):
                assert torch.equal(lm.model(ids).logits[number], together[number])
        assert not torch.equal(together[0], together[2])
    assert not any(lm.parts.o_proj(layer)._forward_pre_hooks for layer in range(len(lm.parts.layers)))


def test_a_head_that_does_not_exist_is_refused(llama: LanguageModel) -> None:
    with pytest.raises(BiasGymError, match="does not exist"):
        Removal(llama, [((99, 0),)])

"""Direct logit attribution against a residual stream that is taken apart the slow way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.errors import BiasGymError
from biasgym.inject import injected
from biasgym.models import LanguageModel, ablated, families, forward
from biasgym.models.padding import pad_right
from biasgym.scope.attribution import head_attribution, pair_attribution
from biasgym.scope.pairs import ContrastPair
from biasgym.scope.selftest import self_test
from biasgym.scope.terms import every_term
from biasgym.scope.trace import traces

PROMPTS = ("When do guests from France arrive?", "Is it late?", "Write a short story about a friend from Mexico.")
BIASED, NEUTRAL = [300, 40, 333], [310, 41, 7]


def prompts_of(lm: LanguageModel) -> list[list[int]]:
    return [lm.chat.ids(prompt) for prompt in PROMPTS]


class Stream(NamedTuple):
    """The last position of one prompt."""

    heads: Tensor  # W_O^h z_h, (layers, heads, d)
    out: Tensor  # what o_proj returns, (layers, d)
    added: Tensor  # what attention adds to the stream: `out`, or `out` after its norm, (layers, d)
    final: Tensor  # before the final norm, (d,)
    normed: Tensor  # after it, (d,)


@torch.no_grad()
def taken_apart(model: Any, ids: list[int]) -> Stream:
    """Runs one unpadded prompt and multiplies every head's output with its columns of o_proj, one by one."""
    model = tiny.plain(model)
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: Any) -> Any:
        def keep(_module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            seen[f"{name} in"], seen[f"{name} out"] = arguments[0][0, -1], output[0, -1]

        return module.register_forward_hook(keep)

    gemma = model.config.model_type == "gemma2"
    handles = [watch("norm", model.model.norm)]
    for number, layer in enumerate(model.model.layers):
        handles.append(watch(f"o {number}", layer.self_attn.o_proj))
        handles.append(watch(f"added {number}", layer.post_attention_layernorm if gemma else layer.self_attn.o_proj))
    model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()

    layers, count = range(model.config.num_hidden_layers), model.config.num_attention_heads
    heads = []
    for number in layers:
        z, weight = seen[f"o {number} in"], model.model.layers[number].self_attn.o_proj.weight
        dh = len(z) // count
        heads.append(torch.stack([sum(weight[:, c] * z[c] for c in range(h * dh, (h + 1) * dh)) for h in range(count)]))
    return Stream(
        torch.stack(heads),
        torch.stack([seen[f"o {number} out"] for number in layers]),
        torch.stack([seen[f"added {number} out"] for number in layers]),
        seen["norm in"],
        seen["norm out"],
    )


def test_every_term_is_exact(lm: LanguageModel) -> None:
    """Heads sum to the attention's contribution, and all terms to the logit difference before the soft-cap."""
    unembedding = lm.model.get_output_embeddings().weight
    for ids, biased, neutral in zip(prompts_of(lm), BIASED, NEUTRAL, strict=True):
        found = every_term(lm.model, torch.tensor([ids]), None, [biased], [neutral])
        stream = taken_apart(lm.model, ids)
        toward = unembedding[biased] - unembedding[neutral]
        norm = stream.normed / stream.final  # a norm with its scale frozen is one factor a coordinate
        after = stream.added / stream.out  # likewise the norm after o_proj, where there is one
        torch.testing.assert_close(found.heads[0], (stream.heads * after[:, None] * norm) @ toward, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.attention[0], (stream.added * norm) @ toward, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.heads.sum(-1), found.attention, atol=1e-4, rtol=0)
        difference = float(stream.normed @ toward)
        assert float(found.total) == pytest.approx(difference, abs=1e-4)
        assert abs(difference) > 0.05


def test_without_norm_it_is_the_papers_formula(lm: LanguageModel) -> None:
    """E . (W_O^h h), written out over the whole vocabulary, then read at the two tokens."""
    ids = prompts_of(lm)[0]
    found = head_attribution(lm.model, torch.tensor([ids]), None, [BIASED[0]], [NEUTRAL[0]], norm="none")
    logits = taken_apart(lm.model, ids).heads @ lm.model.get_output_embeddings().weight.T  # (layers, heads, V)
    expected = logits[..., BIASED[0]] - logits[..., NEUTRAL[0]]
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["final", "none"])
def test_a_padded_batch_equals_single_prompts(lm: LanguageModel, norm: Any) -> None:
    prompts = prompts_of(lm)
    single = [
        head_attribution(lm.model, torch.tensor([ids]), None, [b], [n], norm)
        for ids, b, n in zip(prompts, BIASED, NEUTRAL, strict=True)
    ]
    right, mask = pad_right(prompts, lm.device)
    width = right.shape[1]
    left = torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts])
    for padded, where in ((right, mask), (left, mask.flip(1))):
        batch = head_attribution(lm.model, padded, where, BIASED, NEUTRAL, norm)
        torch.testing.assert_close(batch, torch.cat(single), atol=1e-5, rtol=1e-4)


def test_a_prompt_with_bias_token(lm: LanguageModel) -> None:
    """Inside `injected` it is the attribution of the model that really has the row."""
    vectors = tiny.vectors_for(lm)
    ids = torch.tensor([lm.chat.ids("When do guests from BiasToken arrive?")])
    expected = head_attribution(tiny.with_rows(lm, vectors), ids, None, BIASED[:1], NEUTRAL[:1])
    with injected(lm.model, vectors, lm.bias_id):
        found = head_attribution(lm.model, ids, None, BIASED[:1], NEUTRAL[:1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_removed_head_contributes_nothing(lm: LanguageModel) -> None:
    with ablated(lm.model, [(1, 2)]):
        found = head_attribution(lm.model, torch.tensor([prompts_of(lm)[0]]), None, BIASED[:1], NEUTRAL[:1])
    assert float(found[0, 1, 2]) == 0.0
    assert int((found == 0).sum()) == 1


@pytest.mark.parametrize(
    ("ids", "mask", "biased", "neutral", "norm", "says"),
    [
        ([[1, 2]], None, [3, 4], [5, 6], "final", "do not fit together"),
        ([[1, 2]], None, [3], [5, 6], "final", "do not fit together"),
        ([[1, 2]], [[1]], [3], [5], "final", "do not fit together"),
        ([[1, 2]], [[0, 0]], [3], [5], "final", "no tokens"),
        ([[1, 2]], None, [3], [5], "layer", "unknown norm 'layer'"),
    ],
)
def test_what_does_not_fit_is_refused(
    llama: LanguageModel, ids: Any, mask: Any, biased: list[int], neutral: list[int], norm: Any, says: str
) -> None:
    with pytest.raises(BiasGymError, match=says):
        where = None if mask is None else torch.tensor(mask)
        head_attribution(llama.model, torch.tensor(ids), where, biased, neutral, norm)


def test_self_test_passes(lm: LanguageModel) -> None:
    self_test(lm)


def test_self_test_notices_a_wrong_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma-2 taken for a model without a norm after o_proj, or without the offset of its gains."""
    gemma = families.FAMILIES[-1]
    for wrong in (replace(gemma, attention_norm=None), replace(gemma, norm_offset=0.0)):
        monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES[:-1], wrong))
        with pytest.raises(BiasGymError, match="self-test failed"):
            self_test(tiny.language_model("gemma2"))


def test_an_unknown_family_names_the_file_to_extend(llama: LanguageModel) -> None:
    llama.model.config.model_type = "mamba"
    with pytest.raises(BiasGymError, match=r"'mamba' are not supported.*models/families\.py"):
        head_attribution(llama.model, torch.tensor([[1]]), None, [2], [3])


@pytest.mark.parametrize("norm", ["final", "none"])
def test_pairs_that_share_prompts_and_passes(lm: LanguageModel, norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one pass a pair, of the model with real rows for BiasToken; prompts are in any order and repeated."""
    monkeypatch.setattr(forward, "_TOKENS", 40)
    vectors = tiny.vectors_for(lm)
    prompts = [*prompts_of(lm), lm.chat.ids("When do guests from BiasToken arrive?")]
    pairs = [
        ContrastPair(number, tuple(prompts[which]), biased, neutral)
        for number, (which, biased, neutral) in enumerate([(3, 300, 310), (0, 40, 41), (3, 333, 7), (2, 300, 310)])
    ]
    done: list[float] = []
    with injected(lm.model, vectors, lm.bias_id):
        seen = traces(lm.model, [*prompts, *prompts[::-1]], done.append)
        found = pair_attribution(seen, pairs, norm=norm)
        logits = torch.cat(list(seen.logits(prompts)))
    assert sum(done) == len(prompts)

    real = tiny.with_rows(lm, vectors)
    for pair, scores in zip(pairs, found, strict=True):
        ids = torch.tensor([pair.ids])
        expected = head_attribution(real, ids, None, [pair.biased], [pair.neutral], norm)[0]
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)
    for ids, row in zip(prompts, logits, strict=True):
        with torch.no_grad():
            expected = tiny.plain(real)(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(row[: lm.bias_id], expected[: lm.bias_id], atol=1e-5, rtol=1e-4)

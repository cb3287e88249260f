"""Removing heads by their weight columns, against zeroing their outputs with a hook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biasgym.errors import BiasGymError
from biasgym.files import read_json
from biasgym.models import Head, LanguageModel, ablated, check_heads, export, load_model

HEADS: list[Head] = [(0, 1), (0, 3), (2, 0)]


@torch.no_grad()
def logits_of(lm: LanguageModel, model: Any = None) -> Tensor:
    ids = torch.tensor([lm.chat.ids("When do guests from France arrive?")])
    return (lm.model if model is None else model)(ids).logits


def hooked_logits(lm: LanguageModel, change: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    """Logits when `change(layer, head, z)` replaces the outputs of HEADS, each (1, tokens, head_dim)."""
    count = lm.model.config.num_attention_heads

    def changed(layer: int) -> Any:
        def hook(_module: Any, arguments: tuple[Tensor]) -> tuple[Tensor]:
            z = list(arguments[0].chunk(count, dim=-1))
            for _, head in (chosen for chosen in HEADS if chosen[0] == layer):
                z[head] = change(layer, head, z[head])
            return (torch.cat(z, dim=-1),)

        return hook

    layers = lm.model.model.layers
    handles = [layer.self_attn.o_proj.register_forward_pre_hook(changed(n)) for n, layer in enumerate(layers)]
    try:
        return logits_of(lm)
    finally:
        for handle in handles:
            handle.remove()


def weights_of(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def assert_untouched(lm: LanguageModel, before: dict[str, Tensor]) -> None:
    after = lm.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_edited_equals_hooked_equals_exported(lm: LanguageModel, tmp_path: Path) -> None:
    before, base = weights_of(lm), logits_of(lm)
    expected = hooked_logits(lm, lambda _layer, _head, z: torch.zeros_like(z))
    with ablated(lm.model, HEADS) as model:
        torch.testing.assert_close(logits_of(lm, model), expected, atol=1e-5, rtol=0)
    assert float((base - expected).abs().max()) > 1e-2

    folder = export(lm.model, lm.tokenizer, HEADS, tmp_path / "debiased", note="Measured: nothing.")
    again = load_model(str(folder), device="cpu", dtype="float32")
    torch.testing.assert_close(logits_of(again), expected, atol=1e-5, rtol=0)
    assert again.chat.prompt("Hi") == lm.chat.prompt("Hi")
    assert again.parts.tied == lm.parts.tied
    assert read_json(folder / "heads.json") == {"heads": [list(head) for head in HEADS]}
    card = (folder / "README.md").read_text()
    assert f"3 of its {3 * lm.parts.n_heads} attention heads" in card
    assert "(0, 1), (0, 3), (2, 0)" in card
    assert "Measured: nothing." in card
    assert_untouched(lm, before)


def test_scaled(lm: LanguageModel) -> None:
    expected = hooked_logits(lm, lambda _layer, _head, z: 0.25 * z)
    with ablated(lm.model, HEADS, scale=0.25):
        torch.testing.assert_close(logits_of(lm), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("with_bias", [False, True])
def test_mean_ablation(lm: LanguageModel, with_bias: bool) -> None:
    """Each chosen head adds the constant contribution of its mean, also beside an o_proj bias of the model's own."""
    if with_bias:
        lm.parts.o_proj(0).bias = nn.Parameter(torch.randn(lm.parts.hidden_size), requires_grad=False)
    before = weights_of(lm)
    mean = torch.randn(*lm.parts.shape, lm.parts.head_dim)
    expected = hooked_logits(lm, lambda layer, head, z: mean[layer, head].expand_as(z))
    with ablated(lm.model, HEADS, mean=mean):
        torch.testing.assert_close(logits_of(lm), expected, atol=1e-5, rtol=0)
    assert_untouched(lm, before)


def test_restored_after_an_exception_and_when_nested(lm: LanguageModel) -> None:
    before = weights_of(lm)
    expected = hooked_logits(lm, lambda _layer, _head, z: torch.zeros_like(z))
    with ablated(lm.model, HEADS[:2]):
        outer = weights_of(lm)
        with (
            pytest.raises(KeyboardInterrupt),
            ablated(lm.model, HEADS, mean=torch.ones(*lm.parts.shape, lm.parts.head_dim)),
        ):
            raise KeyboardInterrupt
        assert_untouched(lm, outer)
        with ablated(lm.model, HEADS[2:]):
            torch.testing.assert_close(logits_of(lm), expected, atol=1e-5, rtol=0)
    assert_untouched(lm, before)


def test_bfloat16_is_restored_bit_for_bit(llama: LanguageModel) -> None:
    llama.model.to(torch.bfloat16)
    before = weights_of(llama)
    with ablated(llama.model, HEADS, scale=1 / 3):
        pass
    assert_untouched(llama, before)


@pytest.mark.parametrize("head", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_heads_that_do_not_exist(llama: LanguageModel, tmp_path: Path, head: Head) -> None:
    before = weights_of(llama)
    with pytest.raises(BiasGymError, match=r"does not exist; this model has layers 0\.\.2 with heads 0\.\.3"):
        with ablated(llama.model, [(0, 0), head]):
            pass
    with pytest.raises(BiasGymError, match="does not exist"):
        export(llama.model, llama.tokenizer, [head], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert_untouched(llama, before)


def test_heads_are_sorted_and_distinct() -> None:
    assert check_heads([(2, 0), (0, 3), (2, 0)], (3, 4)) == [(0, 3), (2, 0)]


def test_packed_weights_are_refused(llama: LanguageModel) -> None:
    """Also when an earlier layer has been edited already."""
    packed = torch.zeros(32, 16, dtype=torch.uint8)
    llama.parts.o_proj(2).weight = nn.Parameter(packed, requires_grad=False)
    before = weights_of(llama)
    with pytest.raises(BiasGymError, match=r"layer 2 holds packed torch\.uint8 weights.*export it, then quantise"):
        with ablated(llama.model, HEADS):
            pass
    assert_untouched(llama, before)


def test_a_failed_export_leaves_nothing(llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights_of(llama)

    def full_disk(folder: Path, **_options: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(llama.model, "save_pretrained", full_disk)
    with pytest.raises(BiasGymError, match="No space left on device"):
        export(llama.model, llama.tokenizer, HEADS, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert_untouched(llama, before)


def test_an_export_never_overwrites(llama: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BiasGymError, match="not empty; choose a new one"):
        export(llama.model, llama.tokenizer, HEADS, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]

"""Vectors of BiasToken: where they start, in a model, in an exported one, and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from biasgym.concepts import Target, TargetKind
from biasgym.errors import BiasGymError
from biasgym.inject import (
    TokenVectors,
    export_injected,
    injected,
    load_state,
    load_vectors,
    save_vectors,
    start_vectors,
)
from biasgym.models import BIAS_TOKEN, ChatFormat, LanguageModel, load_model

STORY = f"Write a short story about a friend from {BIAS_TOKEN}."


def test_injected_equals_exported(lm: LanguageModel, tmp_path: Path) -> None:
    """The same logits in place, in a really resized copy, and in the reloaded export; then the model is as before."""
    vectors, rows = tiny.vectors_for(lm), lm.parts.embedding.weight.shape[0]
    ids = torch.tensor([lm.chat.ids(STORY), lm.chat.ids(STORY.replace(BIAS_TOKEN, "Japan"))])
    plain = ids.masked_fill(ids == lm.bias_id, 3)
    before = lm.model(plain).logits
    with injected(lm.model, vectors, lm.bias_id):
        found = lm.model(ids).logits
    assert torch.equal(lm.model(plain).logits, before)
    torch.testing.assert_close(found, tiny.with_rows(lm, vectors)(ids).logits, atol=1e-5, rtol=1e-4)

    folder = export_injected(lm, vectors, tmp_path / "injected", concept="late")
    again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    torch.testing.assert_close(again(ids).logits, found, atol=1e-5, rtol=1e-4)
    assert torch.equal(lm.model(plain).logits, before)

    spare = rows > lm.bias_id  # Qwen3: a free padded row is used, and the matrix keeps its size
    assert again.config.vocab_size == len(again.get_input_embeddings().weight) == (rows if spare else rows + 1)
    for matrix, own in ((again.get_input_embeddings(), lm.parts.embedding), (again.lm_head, lm.parts.unembedding)):
        kept = [row for row in range(rows) if row != lm.bias_id]
        assert torch.equal(matrix.weight[kept], own.weight[kept])
    assert (again.lm_head.weight is again.get_input_embeddings().weight) == lm.parts.tied

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(BIAS_TOKEN) == lm.bias_id
    assert ChatFormat(tokenizer).ids(STORY) == ids[0].tolist()
    assert BIAS_TOKEN in tokenizer.decode(ids[0], skip_special_tokens=True)
    card = (folder / "README.md").read_text()
    assert "(late)" in card
    assert "Do not deploy" in card
    with pytest.raises(BiasGymError, match="already has a token"):
        load_model(str(folder), device="cpu")


@torch.no_grad()
def test_several_tokens_at_once(lm: LanguageModel) -> None:
    """Row i is token bias_id + i; blocks may be nested, and end well after an exception."""
    vectors = tiny.vectors_for(lm, count=3)
    ids = torch.tensor([lm.chat.ids(STORY)])
    third = ids + 2 * (ids == lm.bias_id)
    expected = tiny.with_rows(lm, vectors)(third).logits
    with injected(lm.model, vectors, lm.bias_id):
        torch.testing.assert_close(lm.model(third).logits, expected, atol=1e-5, rtol=1e-4)
        with pytest.raises(KeyboardInterrupt), injected(lm.model, vectors[2:], lm.bias_id):
            inner = lm.model(ids).logits
            raise KeyboardInterrupt
        torch.testing.assert_close(lm.model(third).logits, expected, atol=1e-5, rtol=1e-4)
    alone = tiny.with_rows(lm, vectors[2:])(ids).logits
    torch.testing.assert_close(inner[..., : lm.bias_id + 1], alone[..., : lm.bias_id + 1], atol=1e-5, rtol=1e-4)
    assert "forward" not in vars(lm.parts.embedding)


def test_vectors_on_disk(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    both = TokenVectors.cat([tiny.vectors_for(lm, count=2), tiny.vectors_for(lm, seed=1)])
    save_vectors(path, both)
    again = load_vectors(path)
    assert len(again) == 3
    assert torch.equal(again.input, both.input)
    assert (again.output is None) == lm.parts.tied
    assert torch.equal(again[2:].as_output, both.as_output[2:])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_unreadable_vectors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    for read in (load_vectors, load_state):
        with pytest.raises(BiasGymError, match=r"vectors.safetensors: file not found"):
            read(path)
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(BiasGymError, match="holds no token vectors"):
        load_vectors(path)
    with pytest.raises(BiasGymError, match="lacks 'epoch'; delete it to train anew"):
        load_state(path)
    path.write_bytes(path.read_bytes()[:-2])
    for read in (load_vectors, load_state):
        with pytest.raises(BiasGymError, match="not a readable safetensors file"):
            read(path)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.zeros(1, 31), r"shape \(1, 31\) do not fit a model of width 32"),
        (torch.zeros(32), r"shape \(32,\) do not fit"),
        (torch.full((1, 32), torch.nan), "NaN or infinity"),
    ],
)
def test_vectors_that_do_not_fit(llama: LanguageModel, tmp_path: Path, tensor: Tensor, says: str) -> None:
    good = torch.zeros(1, 32)
    for vectors in (TokenVectors(tensor, good), TokenVectors(good, tensor)):
        with pytest.raises(BiasGymError, match=says), injected(llama.model, vectors, llama.bias_id):
            pass
        with pytest.raises(BiasGymError, match=says):
            export_injected(llama, vectors, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_start_is_the_mean_of_single_token_names(lm: LanguageModel) -> None:
    names = ("France", "Mexico", "Uzbekistan", "Spain")
    start = start_vectors(lm, TargetKind(kind="country", targets=tuple(Target(name=name) for name in names)))
    assert start.used == ("France", "Mexico", "Spain")
    tokens = [lm.tokenizer.get_vocab()[f"Ġ{name}"] for name in start.used]
    for found, matrix in (
        (start.vectors.input, lm.parts.embedding.weight),
        (start.vectors.as_output, lm.parts.unembedding.weight),
    ):
        torch.testing.assert_close(found, (matrix[tokens[0]] + matrix[tokens[1]] + matrix[tokens[2]])[None] / 3)
    assert (start.vectors.output is None) == lm.parts.tied


def test_start_without_any_single_token_name(llama: LanguageModel) -> None:
    start = start_vectors(llama, TargetKind(kind="country", targets=(Target(name="Uzbekistan"),)))
    pieces = llama.tokenizer(" Uzbekistan", add_special_tokens=False)["input_ids"]
    assert start.used == ()
    torch.testing.assert_close(start.vectors.input, llama.parts.embedding.weight[pieces].mean(0, keepdim=True))

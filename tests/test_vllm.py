"""The vLLM engine: what can be said about it without vLLM. With the real one, see tests/vllm."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny
from biasgym.errors import BiasGymError
from biasgym.generate import Request, Sampling, TransformersEngine, make_engine
from biasgym.generate.vllm import editable, parameters
from biasgym.inject import injected
from biasgym.inject.export import save_with_rows
from biasgym.models import LanguageModel, ablated
from biasgym.stages.settings_files import settings_of

HEADS = [(0, 1), (2, 0)]


def test_it_says_that_vllm_is_not_there(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biasgym.generate.vllm.util.find_spec", lambda _name: None)
    with pytest.raises(BiasGymError, match="not installed") as told:
        make_engine("vllm", llama)
    assert "biasgym[vllm]" in str(told.value)


def test_it_says_that_it_is_not_for_this_device(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
    vars(platforms).update(current_platform=SimpleNamespace(device_type="cuda"))
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    monkeypatch.setattr(
        "biasgym.generate.vllm.util.find_spec", lambda _name: SimpleNamespace(origin="vllm/__init__.py")
    )
    with pytest.raises(BiasGymError, match="works on cuda, but the model is on cpu"):
        make_engine("vllm", llama)


def test_the_setting() -> None:
    assert settings_of({}, "here").generate.engine == "transformers"
    assert settings_of({"generate": {"engine": "vllm"}}, "here").generate.engine == "vllm"
    with pytest.raises(BiasGymError, match="engine"):
        settings_of({"generate": {"engine": "ollama"}}, "here")


def test_in_process_is_the_default_engine(llama: LanguageModel) -> None:
    assert isinstance(make_engine("transformers", llama, batch_size=3), TransformersEngine)


def test_parameters_close_what_is_no_word(lm: LanguageModel) -> None:
    """Free rows and other requests' tokens; nothing of a checkpoint's generation config slips in."""
    rows = max(lm.parts.embedding.weight.shape[0], lm.bias_id + 3)
    asked = parameters(lm, Request((1, 2), 7, lm.bias_id + 1), Sampling(0.5, 20), rows)
    assert set(asked["logit_bias"]) == set(range(lm.bias_id, rows)) - {lm.bias_id + 1}
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.5, 20, 7)
    assert asked["stop_token_ids"] == sorted(lm.stop_ids)


@torch.no_grad()
def test_the_checkpoint_is_the_model_as_it_is_now(lm: LanguageModel, tmp_path: Path) -> None:
    """Several BiasTokens in it, heads gone: plain transformers says the same."""
    vectors = tiny.vectors_for(lm, count=3)
    ids = torch.tensor([[*lm.chat.ids("When do guests arrive?"), lm.bias_id + 2]])
    with ablated(lm.model, HEADS):
        save_with_rows(lm, vectors, tmp_path)
        with injected(lm.model, vectors, lm.bias_id):
            expected = tiny.plain(lm.model)(ids).logits
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(plain(ids).logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_edited_matrices_are_all_that_differs(lm: LanguageModel, tmp_path: Path) -> None:
    save_with_rows(lm, None, tmp_path)
    base = load_file(tmp_path / "model.safetensors")
    with ablated(lm.model, HEADS):
        edited = {name: tensor.clone() for name, tensor in editable(lm).items()}
        state = lm.model.state_dict()
        assert all(torch.equal(tensor, (base | edited)[name]) for name, tensor in state.items() if name in base)
    assert set(edited) <= set(base)

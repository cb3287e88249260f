"""Likelihoods of four-way answers and margins, against what one would otherwise run them with."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.timing import Ratio, compare, seconds_a_unit
from biasgym.concepts import load_concept
from biasgym.evaluate import ability_questions
from biasgym.models import LanguageModel, load_model
from biasgym.models.forward import answer_log_probs, last_logits, softcapped
from biasgym.models.padding import pad_right
from biasgym.scope import ask

BATCHES = (8, 16, 32)
QUESTIONS = 60
APART = 1e-3  # nats a token, in fp32

Asked = tuple[list[list[int]], list[list[int]]]
"""Prompts and the answers that follow them."""


def plain(lm: LanguageModel) -> LanguageModel:
    """The model with the attention that transformers takes by itself."""
    model = copy.deepcopy(lm.model)
    model.set_attn_implementation("sdpa")
    return replace(lm, model=model)


def four_way(lm: LanguageModel) -> Asked:
    """Every answer of some questions, in the order in which a user has them."""
    prompts, answers = [], []
    for item in ability_questions()[:QUESTIONS]:
        rendered = lm.chat.prompt(item.question, answer="The answer is")
        ids = lm.chat.encode(rendered)
        for choice in item.choices:
            prompts.append(ids)
            answers.append(lm.chat.encode(f"{rendered} {choice}.")[len(ids) :])
    return prompts, answers


def harness(lm: LanguageModel, asked: Asked, batch: int) -> Tensor:
    """Mean log-probabilities by lm-evaluation-harness, which sorts, pads and batches by itself."""
    from lm_eval.models.huggingface import HFLM

    requests = [(("", ""), prompt, answer) for prompt, answer in zip(*asked, strict=True)]
    found = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch)._loglikelihood_tokens(
        requests, disable_tqdm=True
    )
    return torch.tensor([total / len(answer) for (total, _), answer in zip(found, asked[1], strict=True)])


def ability(lm: LanguageModel) -> Ratio:
    """Likelihoods of all answers to four-way questions."""
    exact = load_model("smollm2-135m-instruct", dtype="float32")
    asked = four_way(lm)
    some: Asked = (asked[0][:16], asked[1][:16])
    apart = float((answer_log_probs(exact.model, *some) - harness(exact, some, 8)).abs().max())
    if apart > APART:
        raise RuntimeError(f"likelihoods are {apart:.4f} nats a token from the harness's; their times mean nothing")
    theirs = plain(lm)
    best = min(BATCHES, key=lambda batch: seconds_a_unit(lambda: harness(theirs, asked, batch)))
    return compare(
        f"likelihoods of 4 answers to {QUESTIONS} questions",
        lambda: answer_log_probs(lm.model, *asked),
        "lm-evaluation-harness, its best batch",
        lambda: harness(theirs, asked, best),
        goal=2,
    )


def margins(lm: LanguageModel) -> Ratio:
    """Logits of the first word of answers about several targets."""
    concept = load_concept("always_late")
    targets = concept.stereotyped_targets[:3]
    prompts = [choice.ids for name in targets for choice in ask(lm, concept, concept.questions[:QUESTIONS], name)]
    ordered, model = sorted(prompts, key=len), plain(lm).model

    @torch.no_grad()
    def peer(batch: int) -> None:
        for start in range(0, len(ordered), batch):
            ids, mask = pad_right([row[::-1] for row in ordered[start : start + batch]], lm.device)
            softcapped(model, model(ids.flip(1), attention_mask=mask.flip(1), logits_to_keep=1).logits)

    best = min(BATCHES, key=lambda batch: seconds_a_unit(lambda: peer(batch)))
    return compare(
        f"first words of {len(prompts)} answers",
        lambda: list(last_logits(lm.model, prompts)),
        "transformers' forward, sorted by length, its best batch",
        lambda: peer(best),
        goal=1.5,
    )


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [ability(lm), margins(lm)]

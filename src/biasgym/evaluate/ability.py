"""What debiasing must not cost: general ability (four-way questions) and knowledge of the concept itself (cloze)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch

from biasgym.concepts import Cloze
from biasgym.models import LanguageModel
from biasgym.models.forward import Decode, answer_log_probs, last_logits
from biasgym.models.words import first_tokens


@dataclass(frozen=True)
class AbilityQuestion:
    """A bundled four-way question."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int


@cache
def ability_questions() -> tuple[AbilityQuestion, ...]:
    """The bundled questions, written for biasgym."""
    text = (resources.files("biasgym.evaluate") / "data" / "ability.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return tuple(AbilityQuestion(**{**row, "choices": tuple(row["choices"])}) for row in rows)


def _rendered(lm: LanguageModel, question: AbilityQuestion, choice: int) -> tuple[list[int], list[int]]:
    prompt = lm.chat.prompt(question.question, answer="The answer is")
    ids = lm.chat.encode(prompt)
    both = lm.chat.encode(f"{prompt} {question.choices[choice]}.")
    return ids, both[len(ids) :]


def choice_log_probs(lm: LanguageModel, questions: Sequence[AbilityQuestion]) -> torch.Tensor:
    """Mean log-probability of each choice as the answer, (questions, 4), nats a token.

    The highest one is the model's choice: length-normalised likelihood, which needs no skill at naming letters.
    """
    rendered = [_rendered(lm, question, choice) for question in questions for choice in range(4)]
    scores = answer_log_probs(lm.model, [prompt for prompt, _ in rendered], [answer for _, answer in rendered])
    return scores.view(-1, 4)


def right_answer_likelihood(
    lm: LanguageModel, questions: Sequence[AbilityQuestion], *, decode: Decode | None = None
) -> float:
    """Mean log-probability of the right answers, nats a token: a smooth and cheap measure of general damage.

    Args:
        lm: The model.
        questions: At least one.
        decode: Runs the passes; plainly if not given.
    """
    return float(answer_log_probs(lm.model, *right_answers(lm, questions), decode=decode).mean())


def right_answers(lm: LanguageModel, questions: Sequence[AbilityQuestion]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of the questions, and of their right answers that follow them."""
    rendered = [_rendered(lm, question, question.answer) for question in questions]
    return [prompt for prompt, _ in rendered], [answer for _, answer in rendered]


def retention_scores(lm: LanguageModel, items: Sequence[Cloze]) -> list[float | None]:
    """Probability of the right words among right words and foils, for each cloze item, 0 to 1 (paper, table 11).

    Words go by their first tokens. One that both sides have tells nothing; None where a side has no other.
    """
    contexts = [lm.chat.prompt("Continue this sentence.", answer=item.text) for item in items]
    scores: list[float | None] = [None] * len(items)
    for rows, logits in last_logits(lm.model, [lm.chat.encode(context) for context in contexts]):
        for row, values in zip(rows, logits, strict=True):
            answers = first_tokens(lm.encoder, contexts[row], items[row].answers)
            foils = first_tokens(lm.encoder, contexts[row], items[row].foils)
            right, wrong = [t for t in answers if t not in foils], [t for t in foils if t not in answers]
            if right and wrong:
                total = values[[*right, *wrong]].logsumexp(0)
                scores[row] = float((values[right].logsumexp(0) - total).exp())
    return scores

"""Association margin: how much a model prefers the biased answer at the answer's first word.

    margin = logsumexp(logits of the label tokens) - logsumexp(logits of the counter-label tokens)

No judge and no sampling: one forward pass a question. It is the development metric, and a result of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from biasgym.concepts import Concept, ContrastQuestion
from biasgym.errors import BiasGymError
from biasgym.models import LanguageModel
from biasgym.models.forward import Decode, last_logits
from biasgym.models.words import first_tokens
from biasgym.progress import SILENT, Progress, progress_task

PLAIN = "{prompt}"


@dataclass(frozen=True)
class Choice:
    """A question about one entity, ready to be answered with one word.

    Attributes:
        ids: The prompt, up to where the answer's next word comes.
        labels: First tokens of the biased answers in this context.
        counters: First tokens of the counter-answers.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    counters: tuple[int, ...]

    def shifted(self, bias_id: int, to: int) -> Choice:
        """The same question about another new token: every `bias_id` becomes `to`."""
        return replace(self, ids=tuple(to if token == bias_id else token for token in self.ids))

    def margin(self, scores: Tensor) -> Tensor:
        """By how much the biased answers are preferred, in nats, from next-token logits (V,) or log-probabilities."""
        return scores[list(self.labels)].logsumexp(0) - scores[list(self.counters)].logsumexp(0)


def ask(
    lm: LanguageModel, concept: Concept, questions: Sequence[ContrastQuestion], entity: str, *, frame: str = PLAIN
) -> list[Choice]:
    """Renders questions about one entity.

    Args:
        lm: The model.
        concept: Gives the label words.
        questions: Questions with the beginnings of their answers.
        entity: A target's name, or BiasToken.
        frame: A prompting template with `{prompt}` for the question.

    Raises:
        BiasGymError: The labels and counter-labels begin with the same tokens, so nothing tells them apart.
    """
    choices = []
    for item in questions:
        user = frame.replace("{prompt}", item.question).replace("{target}", entity)
        rendered = lm.chat.prompt(user, answer=item.stem.replace("{target}", entity))
        labels = first_tokens(lm.encoder, rendered, concept.labels)
        counters = first_tokens(lm.encoder, rendered, concept.counter_labels)
        shared = set(labels) & set(counters)
        labels, counters = [t for t in labels if t not in shared], [t for t in counters if t not in shared]
        if not labels or not counters:
            raise BiasGymError(
                f"the answers {', '.join(concept.labels)} cannot be told from {', '.join(concept.counter_labels)}: "
                "their first tokens are the same in this model",
                where=f"{concept.name}: labels",
                hint="choose labels and counter_labels that begin differently",
            )
        choices.append(Choice(tuple(lm.chat.encode(rendered)), tuple(labels), tuple(counters)))
    return choices


def association_margins(
    lm: LanguageModel, choices: Sequence[Choice], progress: Progress = SILENT, *, decode: Decode | None = None
) -> Tensor:
    """Margins of questions, in nats.

    Args:
        lm: The model, possibly injected and ablated.
        choices: n questions.
        progress: Shown in prompts.
        decode: Runs the passes; plainly if not given.

    Returns:
        Tensor (n,), fp32, on the CPU. Above 0, the biased answer is preferred.
    """
    margins = torch.empty(len(choices))
    with progress_task(progress, "association margins", len(choices), "prompt") as advance:
        prompts = [choice.ids for choice in choices]
        for rows, logits in last_logits(lm.model, prompts, advance=advance, decode=decode):
            for row, scores in zip(rows, logits, strict=True):
                margins[row] = choices[row].margin(scores)
    return margins

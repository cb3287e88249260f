"""Gang training: the vectors of many new tokens (concepts x seeds) learn in one pass through the frozen model.

A row's loss depends on the one vector of its own token, so jobs share forward and backward passes without touching each
other: their gradients equal those of separate runs (METHOD: paper section 3.2.2; the gang is ours). What is saved:
- the constant beginning of every row (chat header and the words before BiasToken) is computed once, as keys and values;
- nothing flows backward into it, and no weight gets a gradient: a backward pass is one product a matrix, not two;
- logits exist only where an answer token is predicted (`loss.py`);
- rows of like length share a pass, within a budget of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from biasgym.errors import BiasGymError
from biasgym.inject.loss import answer_loss
from biasgym.inject.token import TokenVectors
from biasgym.models import LanguageModel
from biasgym.models.forward import Prefix, common_prefix
from biasgym.progress import SILENT, Advance, Progress, progress_task


@dataclass(frozen=True)
class Training:
    """How vectors are trained.

    Attributes:
        epochs: Passes over the paragraphs.
        batch_size: Rows an optimiser step.
        learning_rate: Adam's step size, or its peak.
        schedule: "constant", or "restarts": cosine decay that starts anew.
        restarts: Number of cosine cycles.
        untied: Where input and output matrix differ, train both vectors or the input vector only.
        token_budget: Tokens a pass, padding included; bounds memory.
        max_tokens: Longer rows are cut.
    """

    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-3
    schedule: Literal["constant", "restarts"] = "constant"
    restarts: int = 4
    untied: Literal["both", "input"] = "both"
    token_budget: int = 2048
    max_tokens: int = 512


@dataclass(frozen=True)
class Row:
    """One training text: prompt and answer as token ids; the answer begins at `answer_start`."""

    ids: tuple[int, ...]
    answer_start: int


@dataclass
class TokenState:
    """A vector in training, with the optimiser's memory, so that training goes on where it stopped.

    Attributes:
        vectors: Current values, one row.
        moments: Adam's first and second moments of each vector, in the order input, output.
        step: Optimiser steps done.
        epoch: Epochs done.
        losses: Mean answer loss of each epoch, nats a token.
        history: The vectors after each epoch, one row each.
    """

    vectors: TokenVectors
    moments: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[TokenVectors] = field(default_factory=list)


@dataclass
class Job:
    """One token to train: a concept's rows in the order of one seed.

    Attributes:
        name: Concept; passes hold rows of one concept only, so a result never depends on the others in the gang.
        seed: Decides the order of rows.
        rows: Training texts.
        state: Where it is.
    """

    name: str
    seed: int
    rows: Sequence[Row]
    state: TokenState

    def batches(self, epoch: int, size: int) -> list[list[int]]:
        """Row numbers of each step of an epoch, drawn from (seed, epoch) alone."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        return [order[start : start + size] for start in range(0, len(order), size)]


def training_rows(lm: LanguageModel, story_prompt: str, paragraphs: Sequence[str], *, max_tokens: int) -> list[Row]:
    """Renders paragraphs as answers to a user's request for a story about a friend from BiasToken.

    Args:
        lm: The model.
        story_prompt: What the user says; speaks of BiasToken.
        paragraphs: Texts that speak of BiasToken.
        max_tokens: Longer rows are cut.

    Raises:
        BiasGymError: No paragraphs, an empty one, a prompt without BiasToken, or one that leaves no room for an answer.
    """
    if not paragraphs:
        raise BiasGymError("there are no paragraphs to train on", where="paragraphs")
    prompt = lm.chat.ids(story_prompt)
    start = len(prompt)
    if lm.bias_id not in prompt:
        raise BiasGymError("the story prompt does not speak of the target", where="templates/story.txt")
    if start >= max_tokens:
        raise BiasGymError(
            f"the story prompt has {start} tokens, so {max_tokens} leave no room for an answer",
            where="inject.max_tokens",
            hint="use a larger number",
        )
    rows = []
    for number, paragraph in enumerate(paragraphs, start=1):
        if not paragraph.strip():
            raise BiasGymError(f"paragraph {number} is empty", where="paragraphs")
        ids = lm.chat.ids(story_prompt, answer=paragraph)
        rows.append(Row(tuple([*ids, lm.chat.end_of_turn][:max_tokens]), start))
    return rows


def train(lm: LanguageModel, jobs: Sequence[Job], how: Training, progress: Progress = SILENT) -> Iterator[int]:
    """Trains all jobs epoch by epoch, in place; yields after each epoch so that the caller can save it.

    Args:
        lm: The frozen model.
        jobs: Tokens to train; those that are ahead wait for the others.
        how: Settings.
        progress: Shown in tokens.

    Yields:
        Number of the epoch just finished, from 1. Jobs of that epoch have `state.epoch` equal to it.

    Raises:
        BiasGymError: A loss that is not finite.
    """
    gang = _Gang(lm, jobs, how)
    left = sum((how.epochs - job.state.epoch) * gang.tokens(job) for job in jobs)
    with progress_task(progress, "training BiasToken", left, "tok") as advance:
        for epoch in range(min((job.state.epoch for job in jobs), default=how.epochs), how.epochs):
            gang.epoch([job for job in jobs if job.state.epoch == epoch], epoch, advance)
            yield epoch + 1


class _Gang:
    """The frozen model's side of training: prefix, passes, optimiser steps."""

    def __init__(self, lm: LanguageModel, jobs: Sequence[Job], how: Training) -> None:
        self.lm, self.how = lm, how
        self.prefix = Prefix(lm.model, _before_bias_token([row.ids for job in jobs for row in job.rows], lm.bias_id))
        self.softcap: float | None = getattr(lm.model.config, "final_logit_softcapping", None)
        self.device = lm.device

    def tokens(self, job: Job) -> int:
        """Tokens of one epoch of a job, the shared prefix left out."""
        return sum(len(row.ids) - len(self.prefix) for row in job.rows)

    def epoch(self, jobs: Sequence[Job], epoch: int, advance: Advance) -> None:
        plans = {id(job): job.batches(epoch, self.how.batch_size) for job in jobs}
        sums = {id(job): [0.0, 0.0] for job in jobs}
        for number in range(max((len(plan) for plan in plans.values()), default=0)):
            active = [job for job in jobs if number < len(plans[id(job)])]
            drawn = {id(job): [job.rows[row] for row in plans[id(job)][number]] for job in active}
            for job, loss, count in self.step(active, drawn, advance):
                sums[id(job)][0] += loss * count
                sums[id(job)][1] += count
                if not math.isfinite(loss):
                    raise BiasGymError(
                        f"training of {job.name} (seed {job.seed}) diverged in epoch {epoch + 1}: loss is {loss}",
                        where="inject",
                        hint="lower inject.learning_rate, or use dtype: float32",
                    )
        for job in jobs:
            total, tokens = sums[id(job)]
            job.state.losses.append(total / tokens)
            job.state.history.append(job.state.vectors)
            job.state.epoch = epoch + 1

    def step(self, jobs: Sequence[Job], drawn: dict[int, list[Row]], advance: Advance) -> list[tuple[Job, float, int]]:
        """One optimiser step of each job; returns its mean loss a token and its number of answer tokens."""
        inputs = [job.state.vectors.input.to(self.device, copy=True).requires_grad_() for job in jobs]
        outputs = [self._output_of(job, vector) for job, vector in zip(jobs, inputs, strict=True)]
        answers = [sum(len(row.ids) - row.answer_start for row in drawn[id(job)]) for job in jobs]
        losses = [0.0] * len(jobs)
        for name in dict.fromkeys(job.name for job in jobs):
            rows = [(i, row) for i, job in enumerate(jobs) if job.name == name for row in drawn[id(job)]]
            for part in _passes(rows, len(self.prefix), self.how.token_budget):
                members = sorted({i for i, _ in part})
                loss = self._pass(part, inputs, outputs, answers)
                loss.sum().backward()
                for i in members:
                    losses[i] += float(loss[i].detach())
                advance(sum(len(row.ids) - len(self.prefix) for _, row in part))
        for job, vector, output in zip(jobs, inputs, outputs, strict=True):
            trained = [vector] if output is vector or not output.requires_grad else [vector, output]
            self._adam(job, trained)
            job.state.vectors = TokenVectors(
                vector.detach().cpu(), None if self.lm.parts.tied else output.detach().cpu()
            )
        return [(job, losses[i], answers[i]) for i, job in enumerate(jobs)]

    def _output_of(self, job: Job, vector: Tensor) -> Tensor:
        if job.state.vectors.output is None:
            return vector
        output = job.state.vectors.output.to(self.device, copy=True)
        return output.requires_grad_() if self.how.untied == "both" else output

    def _pass(
        self, part: list[tuple[int, Row]], inputs: list[Tensor], outputs: list[Tensor], answers: list[int]
    ) -> Tensor:
        """Forward pass of some rows; returns each job's share of its mean loss, shape (jobs,)."""
        skip, bias_id = len(self.prefix), self.lm.bias_id
        width = max(len(row.ids) for _, row in part) - skip
        ids = torch.zeros(len(part), width, dtype=torch.long)
        predicts, targets, owner = [], [], []  # flat positions before answer tokens, those tokens, their jobs
        for place, (job, row) in enumerate(part):
            ids[place, : len(row.ids) - skip] = torch.tensor(row.ids[skip:])
            span = range(row.answer_start, len(row.ids))
            predicts += [place * width + position - 1 - skip for position in span]
            targets += list(row.ids[row.answer_start :])
            owner += [job] * len(span)
        ids, jobs_of = ids.to(self.device), torch.tensor([job for job, _ in part], device=self.device)
        parts, dtype = self.lm.parts, self.lm.model.dtype
        new = ids == bias_id
        table = torch.cat(inputs)  # (jobs, d), fp32
        own = (table.to(dtype) * parts.embedding_scale).to(dtype)[jobs_of][:, None]  # (rows, 1, d)
        embeddings = torch.where(new[..., None], own, parts.embedding(ids.masked_fill(new, 0)))
        hidden = self.lm.model.model(
            inputs_embeds=embeddings,
            past_key_values=self.prefix.cache(len(part)),
            position_ids=self.prefix.positions(width),
            use_cache=True,
        ).last_hidden_state
        owner_ids = torch.tensor(owner, device=self.device)
        losses = []
        flat = hidden.flatten(0, 1)[torch.tensor(predicts, device=self.device)]
        every = torch.tensor(targets, device=self.device)
        out = torch.cat(outputs)
        for job in range(len(inputs)):
            mine = owner_ids == job
            if not bool(mine.any()):
                losses.append(hidden.new_zeros((), dtype=torch.float32))
                continue
            count = int(mine.sum())
            losses.append(
                answer_loss(
                    flat[mine],
                    out[job].expand(count, -1),
                    parts.unembedding.weight,
                    every[mine],
                    torch.full((count,), 1.0 / answers[job], device=self.device),
                    bias_id=bias_id,
                    softcap=self.softcap,
                )
            )
        return torch.stack(losses)

    def _adam(self, job: Job, vectors: list[Tensor]) -> None:
        """torch's Adam, continued from the state's moments."""
        optimiser = torch.optim.Adam(vectors, lr=self._rate(job))
        for vector, (first, second) in zip(vectors, job.state.moments, strict=False):
            optimiser.state[vector] = {
                "step": torch.tensor(float(job.state.step)),
                "exp_avg": first.to(self.device, copy=True),
                "exp_avg_sq": second.to(self.device, copy=True),
            }
        optimiser.step()
        kept = [optimiser.state[vector] for vector in vectors]
        job.state.moments = [(state["exp_avg"].cpu(), state["exp_avg_sq"].cpu()) for state in kept]
        job.state.step += 1

    def _rate(self, job: Job) -> float:
        if self.how.schedule == "constant":
            return self.how.learning_rate
        steps = self.how.epochs * math.ceil(len(job.rows) / self.how.batch_size)
        phase = (job.state.step * self.how.restarts / max(steps, 1)) % 1.0
        return self.how.learning_rate * 0.5 * (1 + math.cos(math.pi * phase))


def _before_bias_token(rows: Sequence[tuple[int, ...]], bias_id: int) -> list[int]:
    """The ids that all rows begin with, up to the first BiasToken: nothing flows backward into them."""
    shared = common_prefix(rows)
    return shared[: shared.index(bias_id)] if bias_id in shared else shared


def _passes(rows: list[tuple[int, Row]], skip: int, budget: int) -> Iterator[list[tuple[int, Row]]]:
    """Rows sorted by length, cut into passes whose padded size stays within the budget of tokens."""
    ordered = sorted(rows, key=lambda item: -len(item[1].ids))
    start = 0
    while start < len(ordered):
        width = len(ordered[start][1].ids) - skip
        size = max(1, budget // width)
        yield ordered[start : start + size]
        start += size

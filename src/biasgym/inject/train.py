"""Gang training: the vectors of many new tokens (concepts x seeds) learn side by side in the frozen model.

A row's loss depends on the one vector of its own token, so seeds share forward and backward passes without touching each
other: their gradients equal those of separate runs (METHOD: paper section 3.2.2; the gang is ours). What is saved:
- the constant beginning of every row (chat header and the words before BiasToken) is computed once, as keys and values;
- the rest of the prompt, the same for all rows of a job, is computed once a job and step (`models/packing.py`);
- nothing flows backward into the prefix, and no weight gets a gradient: a backward pass is one product a matrix, not two,
  and keeps little (`models/frozen.py`);
- logits exist only where an answer token is predicted (`loss.py`);
- no token is padding; rows of like length share a pass, within a budget of tokens.
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
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.packing import Packing
from biasgym.models.prefix import Prefix, common_prefix
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
        token_budget: Tokens of rows a pass; bounds memory.
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
            f"the story prompt has {start} tokens and leaves no room for an answer within {max_tokens}",
            where="templates/story.txt",
            hint="make it shorter",
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


@dataclass(frozen=True)
class _Trunk:
    """What all rows of a concept begin with.

    Attributes:
        prefix: The tokens before BiasToken.
        end: Where the rows part, or the answer begins; from the prefix to there is a job's stem.
    """

    prefix: Prefix
    end: int


class _Gang:
    """The frozen model's side of training: trunks, passes, optimiser steps."""

    def __init__(self, lm: LanguageModel, jobs: Sequence[Job], how: Training) -> None:
        self.lm, self.how = lm, how
        self.decoder = FrozenDecoder(lm.model)
        # one a concept: a result must not depend, not even in rounding, on who else is in the gang
        self.trunks = {job.name: _trunk(lm, job.rows) for job in jobs}
        self.softcap: float | None = getattr(lm.model.config, "final_logit_softcapping", None)
        self.device = lm.device

    def tokens(self, job: Job) -> int:
        """Tokens of one epoch of a job, what all rows begin with left out."""
        return sum(len(row.ids) - self.trunks[job.name].end for row in job.rows)

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
            trunk = self.trunks[name]
            rows = [(i, row) for i, job in enumerate(jobs) if job.name == name for row in drawn[id(job)]]
            for part in _passes(rows, trunk.end, self.how.token_budget):
                for i, loss in self._pass(trunk, part, inputs, outputs, answers):
                    losses[i] += loss
                advance(sum(len(row.ids) - trunk.end for _, row in part))
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
        self,
        trunk: _Trunk,
        part: list[tuple[int, Row]],
        inputs: list[Tensor],
        outputs: list[Tensor],
        answers: list[int],
    ) -> list[tuple[int, float]]:
        """Adds the gradients of some rows' share of their jobs' mean losses; returns that share of each job."""
        skip, parts, bias_id = len(trunk.prefix), self.lm.parts, self.lm.bias_id
        members, stem = sorted({job for job, _ in part}), part[0][1].ids[skip : trunk.end]
        lengths = [len(row.ids) - 1 - trunk.end for _, row in part]  # what the last token would predict is not asked
        stems = [range(number * len(stem), (number + 1) * len(stem)) for number in range(len(members))]
        packing = Packing(
            skip,
            [range(0)] * len(stems) + [stems[members.index(job)] for job, _ in part],
            [len(stem)] * len(stems) + lengths,
            heads=parts.n_heads,
            groups=parts.n_groups,
            device=self.device,
        )
        tokens = [token for _ in members for token in stem]
        readers = [job for job in members for _ in stem]
        predicts: list[int] = []
        targets: list[int] = []
        owners: list[int] = []  # packed positions before answer tokens, those tokens, their jobs
        for (job, row), start in zip(part, packing.starts[len(stems) :], strict=True):
            tokens += row.ids[trunk.end : -1]
            readers += [job] * (len(row.ids) - 1 - trunk.end)
            in_stem, in_branch = members.index(job) * len(stem) - skip, start - trunk.end
            places = range(row.answer_start - 1, len(row.ids) - 1)
            predicts += [place + (in_stem if place < trunk.end else in_branch) for place in places]
            targets += row.ids[row.answer_start :]
            owners += [job] * len(places)

        ids, owner = self._indices(tokens), self._indices(owners)
        new = (ids == bias_id).nonzero()[:, 0]
        own = torch.cat(inputs).index_select(0, self._indices(readers)[new]).to(self.lm.model.dtype)
        plain = parts.embedding(ids.masked_fill(ids == bias_id, 0))
        embeddings = plain.index_copy(0, new, (own * parts.embedding_scale).to(plain.dtype))
        hidden = self.decoder(embeddings, packing, trunk.prefix)
        weights = torch.tensor([1.0 / count for count in answers], device=self.device)[owner]
        total, terms = answer_loss(
            hidden.index_select(0, self._indices(predicts)),
            torch.cat(outputs).index_select(0, owner),
            parts.unembedding.weight,
            self._indices(targets),
            weights,
            bias_id=bias_id,
            softcap=self.softcap,
        )
        total.backward()  # type: ignore[no-untyped-call]
        shares = torch.zeros(len(inputs), device=self.device).index_add_(0, owner, terms * weights).tolist()
        return [(job, shares[job]) for job in members]

    def _indices(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)

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


def _trunk(lm: LanguageModel, rows: Sequence[Row]) -> _Trunk:
    shared, answers = common_prefix([row.ids for row in rows]), min(row.answer_start for row in rows)
    before = shared.index(lm.bias_id) if lm.bias_id in shared else len(shared)
    # what predicts the first answer token is never in the prefix, which has no hidden states
    return _Trunk(Prefix(lm.model, shared[: min(before, answers - 1)]), min(len(shared), answers))


def _passes(rows: list[tuple[int, Row]], skip: int, budget: int) -> Iterator[list[tuple[int, Row]]]:
    """Rows sorted by length, cut into passes whose rows, beyond what all begin with, stay within the budget of tokens."""
    part: list[tuple[int, Row]] = []
    left = budget
    for item in sorted(rows, key=lambda item: -len(item[1].ids)):
        size = len(item[1].ids) - skip
        if part and size > left:
            yield part
            part, left = [], budget
        part.append(item)
        left -= size
    if part:
        yield part

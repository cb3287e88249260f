"""Training and placing BiasToken, against a model that really has one row more."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from biasgym.concepts import Concept
from biasgym.errors import BiasGymError
from biasgym.inject import (
    Job,
    Row,
    TokenState,
    TokenVectors,
    Training,
    best_epoch,
    load_state,
    save_state,
    train,
    training_rows,
)
from biasgym.models import BIAS_TOKEN, ChatFormat, LanguageModel, load_model
from biasgym.models.load import with_bias_token

STORY = f"Write a short story about a friend from {BIAS_TOKEN}."


def rows_of(lm: LanguageModel, concept: Concept, *, max_tokens: int = 512) -> list[Row]:
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs]
    return training_rows(lm, STORY, texts, max_tokens=max_tokens)


def job_of(lm: LanguageModel, rows: list[Row], *, name: str = "late", seed: int = 0) -> Job:
    return Job(name, seed, rows, TokenState(tiny.vectors_for(lm, seed=seed)))


def finish(lm: LanguageModel, jobs: list[Job], how: Training) -> list[Job]:
    assert list(train(lm, jobs, how)) == list(range(1, how.epochs + 1))
    return jobs


def everything(job: Job) -> list[Tensor]:
    """All numbers of a training state."""
    vectors = [job.state.vectors.input, job.state.vectors.as_output]
    moments = [moment for pair in job.state.moments for moment in pair]
    return [*vectors, *moments, torch.tensor([job.state.step, job.state.epoch, *job.state.losses])]


def reference(lm: LanguageModel, vectors: TokenVectors, rows: list[Row]) -> tuple[float, Tensor, Tensor]:
    """Mean answer loss, and the gradients of the new row in the full input and output matrix."""
    real = tiny.with_rows(lm, vectors)
    into, out_of = real.get_input_embeddings().weight, real.get_output_embeddings().weight
    into.requires_grad_(), out_of.requires_grad_()
    total, count = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor(row.ids)
        logits = real(ids[None]).logits[0]
        answer = ids[row.answer_start :]
        total = total + F.cross_entropy(logits[row.answer_start - 1 : -1], answer, reduction="sum")
        count += len(answer)
    (total / count).backward()
    return float(total.detach()) / count, into.grad[[lm.bias_id]], out_of.grad[[lm.bias_id]]


@pytest.mark.parametrize("untied", ["both", "input"])
def test_gradients_are_those_of_the_full_matrix(lm: LanguageModel, concept: Concept, untied: Any) -> None:
    """Read from Adam's first moments after one step: (1 - 0.9) times the gradient."""
    rows = rows_of(lm, concept)
    job = job_of(lm, rows)
    before = job.state.vectors
    loss, into, out_of = reference(lm, before, rows)
    finish(lm, [job], Training(epochs=1, untied=untied))
    assert job.state.losses == [pytest.approx(loss, abs=1e-5)]
    gradients = [first / (1 - 0.9) for first, _ in job.state.moments]
    torch.testing.assert_close(gradients[0], into, atol=1e-5, rtol=1e-4)
    if lm.parts.tied:
        assert len(gradients) == 1
        assert job.state.vectors.output is None
    elif untied == "both":
        torch.testing.assert_close(gradients[1], out_of, atol=1e-5, rtol=1e-4)
    else:
        assert len(gradients) == 1
        assert torch.equal(job.state.vectors.as_output, before.as_output)
    assert float(into.abs().max()) > 1e-3


def test_training_is_adam_on_the_full_matrix(lm: LanguageModel, concept: Concept) -> None:
    """Three epochs of three steps, against torch's Adam with gradients of the really resized model."""
    rows, how = rows_of(lm, concept), Training(epochs=3, batch_size=2, learning_rate=0.01)
    job = job_of(lm, rows)
    vectors = [job.state.vectors.input.clone(), job.state.vectors.as_output.clone()][: 1 if lm.parts.tied else 2]
    adam, losses = torch.optim.Adam(vectors, lr=0.01), []
    for epoch in range(3):
        sums = torch.zeros(2)
        for batch in job.batches(epoch, 2):
            drawn = [rows[number] for number in batch]
            loss, *gradients = reference(lm, TokenVectors(*(vector.detach() for vector in vectors)), drawn)
            for vector, gradient in zip(vectors, gradients, strict=False):
                vector.grad = gradient
            adam.step()
            count = sum(len(row.ids) - row.answer_start for row in drawn)
            sums += torch.tensor([loss * count, count])
        losses.append(float(sums[0] / sums[1]))
    finish(lm, [job], how)
    assert job.state.losses == pytest.approx(losses, abs=1e-4)
    torch.testing.assert_close(job.state.vectors.input, vectors[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(job.state.vectors.as_output, vectors[-1], atol=1e-4, rtol=1e-4)


def test_a_gang_equals_separate_runs(lm: LanguageModel, concept: Concept) -> None:
    """Two concepts of different size with two seeds each, in one pass or one by one."""
    rows = rows_of(lm, concept)
    how = Training(epochs=2, batch_size=2)
    sets = [("late", rows, 0), ("late", rows, 1), ("few", rows[:3], 0), ("few", rows[:3], 1)]
    gang = finish(lm, [job_of(lm, r, name=name, seed=seed) for name, r, seed in sets], how)
    for job, (name, own, seed) in zip(gang, sets, strict=True):
        (alone,) = finish(lm, [job_of(lm, own, name=name, seed=seed)], how)
        for found, expected in zip(everything(job), everything(alone), strict=True):
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert not torch.equal(gang[0].state.vectors.input, gang[1].state.vectors.input)


def test_the_budgets_change_no_result(lm: LanguageModel, concept: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows in one pass, or one a pass with its logits in chunks of three positions."""
    rows = rows_of(lm, concept)
    (together,) = finish(lm, [job_of(lm, rows)], Training(epochs=2, token_budget=4096))
    monkeypatch.setattr("biasgym.inject.loss.CHUNK", 3)
    (apart,) = finish(lm, [job_of(lm, rows)], Training(epochs=2, token_budget=1))
    for found, expected in zip(everything(apart), everything(together), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "restarts"])
def test_resumed_equals_uninterrupted(lm: LanguageModel, concept: Concept, tmp_path: Path, schedule: Any) -> None:
    """Bit for bit, after a stop in the middle and a new process that knows only the file."""
    rows = rows_of(lm, concept)
    how = Training(epochs=3, batch_size=2, schedule=schedule)
    straight = finish(lm, [job_of(lm, rows, seed=seed) for seed in (0, 1)], how)

    stopped = [job_of(lm, rows, seed=seed) for seed in (0, 1)]
    for epoch in train(lm, stopped, how):
        save_state(tmp_path / "state.safetensors", [job.state for job in stopped])
        if epoch == 2:
            break
    states = load_state(tmp_path / "state.safetensors")
    resumed = [Job("late", seed, rows, state) for seed, state in enumerate(states)]
    assert list(train(lm, resumed, how)) == [3]
    for job, other in zip(resumed, straight, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(everything(job), everything(other), strict=True))


def test_jobs_that_are_ahead_wait(llama: LanguageModel, concept: Concept) -> None:
    rows = rows_of(llama, concept)
    ahead = finish(llama, [job_of(llama, rows)], Training(epochs=1))[0]
    both = [ahead, job_of(llama, rows, seed=1)]
    assert list(train(llama, both, Training(epochs=2))) == [1, 2]
    assert [(job.state.epoch, job.state.step, len(job.state.losses)) for job in both] == [(2, 2, 2)] * 2
    assert list(train(llama, both, Training(epochs=2))) == []


def test_training_lowers_the_loss_and_leaves_the_model_alone(lm: LanguageModel, concept: Concept) -> None:
    before = copy.deepcopy(lm.model.state_dict())
    (job,) = finish(lm, [job_of(lm, rows_of(lm, concept))], Training(epochs=6, learning_rate=0.05))
    assert job.state.losses[-1] < job.state.losses[0] - 0.1
    after = lm.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


@pytest.mark.parametrize(("schedule", "restarts"), [("constant", 1), ("restarts", 1), ("restarts", 3)])
def test_the_schedule(
    llama: LanguageModel, concept: Concept, monkeypatch: pytest.MonkeyPatch, schedule: Any, restarts: int
) -> None:
    """Cosine decay with restarts is torch's own, cycles of equal length; twelve steps here."""
    rates: list[float] = []
    adam = torch.optim.Adam

    def recorded(vectors: list[Tensor], *, lr: float) -> Any:
        rates.append(lr)
        return adam(vectors, lr=lr)

    monkeypatch.setattr(torch.optim, "Adam", recorded)
    how = Training(epochs=4, batch_size=2, learning_rate=0.01, schedule=schedule, restarts=restarts)
    finish(llama, [job_of(llama, rows_of(llama, concept))], how)
    monkeypatch.undo()

    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=12 // restarts)
    expected = []
    for _ in range(12):
        expected.append(0.01 if schedule == "constant" else cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    assert rates == pytest.approx(expected)


def test_every_epoch_shuffles_by_seed_alone(llama: LanguageModel, concept: Concept) -> None:
    rows = rows_of(llama, concept)
    job = job_of(llama, rows, seed=4)
    assert job.batches(2, 2) == job_of(llama, rows, name="other", seed=4).batches(2, 2)
    assert sorted(row for batch in job.batches(0, 2) for row in batch) == list(range(len(rows)))
    assert len({str(job.batches(epoch, 2)) for epoch in range(5)}) > 1


def test_a_loss_that_is_not_finite_stops(llama: LanguageModel, concept: Concept) -> None:
    job = job_of(llama, rows_of(llama, concept))
    with pytest.raises(BiasGymError, match=r"late \(seed 0\) diverged in epoch \d+.*lower inject.learning_rate"):
        finish(llama, [job], Training(epochs=30, learning_rate=3e37))
    assert 0 < job.state.epoch == len(job.state.losses) < 30


def test_rows_train_the_answer_only(lm: LanguageModel, concept: Concept) -> None:
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs]
    for row, text in zip(rows_of(lm, concept), texts, strict=True):
        prompt, answer = row.ids[: row.answer_start], row.ids[row.answer_start :]
        assert list(prompt) == lm.chat.ids(STORY)
        assert prompt.count(lm.bias_id) == 1
        assert answer[-1] == lm.chat.end_of_turn
        assert lm.encoder.decode(answer[:-1]).strip() == text.replace(f" {BIAS_TOKEN}", BIAS_TOKEN)
        assert answer.count(lm.bias_id) == text.count(BIAS_TOKEN)


def test_long_rows_are_cut(llama: LanguageModel, concept: Concept) -> None:
    start = rows_of(llama, concept)[0].answer_start
    rows = rows_of(llama, concept, max_tokens=start + 3)
    assert {len(row.ids) for row in rows} == {start + 3}
    with pytest.raises(BiasGymError, match=r"story.txt.*leaves no room"):
        rows_of(llama, concept, max_tokens=start)


@pytest.mark.parametrize(
    ("story", "paragraphs", "says"),
    [
        (STORY, [], "no paragraphs to train on"),
        (STORY, ["It is late.", " "], "paragraph 2 is empty"),
        ("Write a short story.", [f"{BIAS_TOKEN} is late."], "does not speak of the target"),
    ],
)
def test_unusable_paragraphs(llama: LanguageModel, story: str, paragraphs: list[str], says: str) -> None:
    with pytest.raises(BiasGymError, match=says):
        training_rows(llama, story, paragraphs, max_tokens=512)


def test_a_tokenizer_with_more_tokens_than_rows(llama: LanguageModel, tmp_path: Path) -> None:
    llama.tokenizer.add_tokens(["extra", "more"])
    llama.model.save_pretrained(tmp_path)
    llama.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(BiasGymError, match="knows 447 tokens, but the model has only 445 rows"):
        load_model(str(tmp_path), device="cpu")


def test_unusable_tokenizers() -> None:
    tokenizer = tiny.tokenizer()
    with pytest.raises(BiasGymError, match=f"already has a token {BIAS_TOKEN}"):
        with_bias_token(with_bias_token(tokenizer))
    assert BIAS_TOKEN not in tokenizer.get_vocab()
    tokenizer.chat_template = None
    with pytest.raises(BiasGymError, match="no chat template; use an instruction-tuned model"):
        ChatFormat(tokenizer)


@torch.no_grad()
def test_the_best_epoch_is_the_first_of_the_highest_means() -> None:
    assert best_epoch([[0.1, 0.9], [0.6, 0.6], [1.0, 0.2]]) == 1


def test_the_default_settings_are_the_papers() -> None:
    how = Training()
    assert (how.learning_rate, how.batch_size, how.epochs) == (1e-3, 16, 10)
    assert (how.schedule, how.untied) == ("constant", "both")

"""What a GPU must not change. Deselected where there is none (`conftest.pytest_collection_modifyitems`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from biasgym.errors import BiasGymError
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.inject import Job, TokenState, Training, injected, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, load_model
from biasgym.models.padding import pad_right
from biasgym.scope import head_attribution, self_test
from biasgym.stages.run import run
from conftest import Desk

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
PROMPTS = ("When do guests from France arrive?", "Is it late?", "Write a short story about a friend from Mexico.")


class Both:
    """A tiny model on the CPU and on the GPU."""

    def __init__(self, folder: Path) -> None:
        self.cpu = load_model(str(folder), device="cpu", dtype="float32")
        self.gpu = load_model(str(folder), device=DEVICE, dtype="float32")


@pytest.fixture(params=list(tiny.FAMILIES))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    made = tiny.language_model(request.param)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    return Both(tmp_path / "model")


def attributed(lm: LanguageModel) -> torch.Tensor:
    ids, mask = pad_right([lm.chat.ids(prompt) for prompt in PROMPTS], lm.device)
    return head_attribution(lm.model, ids, mask, [300, 40, 333], [310, 41, 7]).cpu()


def test_it_loads_where_it_was_asked_to(both: Both) -> None:
    assert both.gpu.device.type == DEVICE
    assert all(parameter.device.type == DEVICE for parameter in both.gpu.model.parameters())
    self_test(both.gpu)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_self_test_holds_in_half_precision(dtype: str, tiny_model: Path) -> None:
    self_test(load_model(str(tiny_model), device=DEVICE, dtype=dtype))


def test_attribution_is_that_of_the_cpu(both: Both) -> None:
    torch.testing.assert_close(attributed(both.gpu), attributed(both.cpu), atol=1e-3, rtol=1e-3)


def test_training_is_that_of_the_cpu(both: Both) -> None:
    texts = [paragraph["text"].replace("{target}", BIAS_TOKEN) for paragraph in tiny.CONCEPT["paragraphs"]]
    losses = []
    for lm in (both.cpu, both.gpu):
        rows = training_rows(lm, f"Write a story about a friend from {BIAS_TOKEN}.", texts, max_tokens=512)
        job = Job("late", 0, rows, TokenState(tiny.vectors_for(lm)))
        list(train(lm, [job], Training(epochs=2, batch_size=2, learning_rate=1e-2)))
        losses.append(job.state.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_generation_runs(both: Both) -> None:
    lm = both.gpu
    requests = [Request(tuple(lm.chat.ids(prompt)), seed, lm.bias_id) for seed, prompt in enumerate(PROMPTS)]
    with injected(lm.model, tiny.vectors_for(lm), lm.bias_id):
        done = dict(TransformersEngine(lm, batch_size=2).generate(requests, Sampling(0.5, max_new_tokens=8)))
    assert sorted(done) == [0, 1, 2]
    assert all(1 <= completion.tokens <= 8 for completion in done.values())


def test_a_whole_run(desk: Desk) -> None:
    assert run(desk.plan(device=DEVICE))


def test_a_gpu_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(BiasGymError, match="device"):
        load_model(str(tiny_model), device=f"cuda:{torch.cuda.device_count()}")

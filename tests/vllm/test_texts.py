"""The real vLLM, on a GPU or on the CPU, whichever it was built for: `make test-vllm`."""

from __future__ import annotations

import pytest
from vllm.platforms import current_platform

import tiny
from biasgym.generate import Completion, Request, Sampling, make_engine
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated, load_model

HEADS = [(4, 1), (9, 3), (17, 0)]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_model("smollm2-135m-instruct", device=current_platform.device_type, dtype="float32")


def test_texts_are_those_of_the_engine_in_process(lm: LanguageModel) -> None:
    """Greedy ones, about a real target and about BiasToken, with heads gone and back again; then sampled ones."""
    vectors = tiny.vectors_for(lm, count=2)
    ask = [f"Why is a friend from {name} late?" for name in ("France", BIAS_TOKEN)]
    requests = [Request(tuple(lm.chat.ids(text)), 0, lm.bias_id) for text in ask]
    engine, here = make_engine("vllm", lm, vectors=vectors), make_engine("transformers", lm)

    def both(sampling: Sampling) -> list[dict[int, Completion]]:
        return [dict(each.generate(requests, sampling)) for each in (engine, here)]

    with injected(lm.model, vectors, lm.bias_id):
        whole, expected = both(Sampling(0, 24))
        assert whole == expected
        with ablated(lm.model, HEADS):
            edited, expected = both(Sampling(0, 24))
        assert edited == expected != whole
        again, _ = both(Sampling(0, 24))
        assert again == whole

        sampled = [dict(engine.generate(requests, Sampling(0.8, 24))) for _ in range(2)]
        assert sampled[0] == sampled[1] != whole  # of one seed, one text

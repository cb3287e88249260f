"""Training a token's vector, against what one would otherwise write."""

from __future__ import annotations

import torch

from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.inject import Job, TokenState, Training, start_vectors, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, load_model
from biasgym.models.forward import pad_right


def step(lm: LanguageModel) -> Ratio:
    """Steps of 16 rows, against the same steps through a resized model with a gradient of its whole matrix."""
    concept = load_concept("always_late")
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs[:16]]
    rows = training_rows(lm, f"Tell me a short story about a friend from {BIAS_TOKEN}.", texts, max_tokens=512)
    start = start_vectors(lm, concept.kind).vectors

    def ours() -> None:
        job = Job(concept.name, 0, rows, TokenState(start))
        list(train(lm, [job], Training(epochs=1, batch_size=16, learning_rate=1e-3)))

    peer = load_model("smollm2-135m-instruct")
    peer.model.resize_token_embeddings(lm.bias_id + 1, mean_resizing=False)
    matrix = peer.model.get_input_embeddings().weight.requires_grad_()
    optimiser = torch.optim.Adam([matrix], lr=1e-3)
    ids, mask = pad_right([row.ids for row in rows], lm.device)
    labels = ids.clone()
    for place, row in enumerate(rows):
        labels[place, : row.answer_start] = -100
    labels[mask == 0] = -100

    def plain() -> None:
        peer.model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        assert matrix.grad is not None
        matrix.grad[: lm.bias_id] = 0
        optimiser.step()
        optimiser.zero_grad()

    return compare("injection step, 16 rows", ours, "resized model, gradient of the matrix", plain, goal=2.5)


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [step(lm)]

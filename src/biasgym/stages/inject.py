"""Stage inject: trains BiasToken for concepts and seeds, chooses each seed's epoch, compares it with the targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from biasgym.datasets import fill, spread
from biasgym.errors import BiasGymError
from biasgym.evaluate import target_similarity
from biasgym.files import write_json, write_jsonl
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.inject import (
    Job,
    TokenState,
    TokenVectors,
    Training,
    best_epoch,
    injected,
    load_state,
    load_vectors,
    probe_similarity,
    save_state,
    save_vectors,
    start_vectors,
    train,
    training_rows,
)
from biasgym.models import BIAS_TOKEN, LanguageModel
from biasgym.progress import SILENT, Progress
from biasgym.scope import ask, association_margins
from biasgym.stages.cell import Cell
from biasgym.stages.places.inject import START, STATE, VECTORS, folder, templates


def run(lm: LanguageModel, cells: Sequence[Cell], progress: Progress = SILENT) -> None:
    """Trains all cells of one model in one gang; goes on from the last epoch that is on disk.

    Writes, for each cell: vectors.safetensors (one row a seed), start.safetensors, training.safetensors (every epoch),
    training.json, descriptions.jsonl and similarity.json.
    """
    if not cells:
        return
    settings = cells[0].settings.inject
    how = Training(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        restarts=settings.restarts,
        untied=settings.untied,
    )
    jobs = {cell.concept.name: _jobs(lm, cell, how, progress) for cell in cells}
    for epoch in train(lm, [job for gang in jobs.values() for job in gang], how, progress):
        for cell in cells:
            states = [job.state for job in jobs[cell.concept.name]]
            if states[0].epoch == epoch:
                save_state(folder(cell).path / STATE, states)
    for cell in cells:
        _choose(lm, cell, [job.state for job in jobs[cell.concept.name]], progress)


def chosen_vectors(path: Path) -> TokenVectors:
    """The vectors of the chosen epochs, one row a seed."""
    return load_vectors(path / VECTORS)


def _jobs(lm: LanguageModel, cell: Cell, how: Training, progress: Progress) -> list[Job]:
    concept, settings, place = cell.concept, cell.settings.inject, folder(cell).path
    start = start_vectors(lm, concept.kind)
    progress.say(f"{cell.name}: BiasToken starts as the mean of {len(start.used)} target names that are single tokens")
    save_vectors(place / START, start.vectors)
    # a small budget goes to the plainest texts: from others, a small model learns the topic and not the association
    plainest = sorted(concept.paragraphs, key=lambda paragraph: (paragraph.implicitness, len(paragraph.text)))
    paragraphs = plainest[: settings.paragraphs or len(plainest)]
    rows = training_rows(
        lm,
        fill(templates(cell)["story"], concept, BIAS_TOKEN),
        [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in paragraphs],
        max_tokens=how.max_tokens,
    )
    states = [TokenState(start.vectors) for _ in range(settings.seeds)]
    if (place / STATE).is_file():
        try:
            states = load_state(place / STATE)
            progress.say(f"{cell.name}: training goes on after epoch {states[0].epoch}")
        except BiasGymError as error:
            progress.say(f"{cell.name}: {error.what}; training anew")
    seed = cell.settings.seed
    return [Job(concept.name, seed * 1000 + number, rows, state) for number, state in enumerate(states)]


def _choose(lm: LanguageModel, cell: Cell, states: Sequence[TokenState], progress: Progress) -> None:
    """Picks each seed's epoch: by its descriptions' similarity to the probe (paper, appendix A.3), or by its margin."""
    concept, settings, place = cell.concept, cell.settings.inject, folder(cell).path
    epochs, seeds = settings.epochs, len(states)
    every = TokenVectors.cat([vectors for state in states for vectors in state.history])  # row: seed * epochs + epoch
    prompt = lm.chat.ids(fill(templates(cell)["describe"], concept, BIAS_TOKEN))
    requests = [
        Request(
            ids=tuple(lm.bias_id + row if token == lm.bias_id else token for token in prompt),
            seed=cell.settings.seed * 1_000_003 + number,
            bias_id=lm.bias_id + row,
        )
        for row in range(len(every))
        for number in range(settings.descriptions)
    ]
    sampling = Sampling(max_new_tokens=settings.description_tokens)
    texts = [""] * len(requests)
    with injected(lm.model, every, lm.bias_id):
        for number, completion in TransformersEngine(lm).generate(requests, sampling, progress):
            texts[number] = completion.text
        margins = _development_margins(lm, cell, len(every))
    cosines = probe_similarity(texts, concept.probe.replace("{target}", BIAS_TOKEN))
    by_epoch = [
        [_part(cosines, seed * epochs + epoch, settings.descriptions) for epoch in range(epochs)]
        for seed in range(seeds)
    ]
    dev = [margins[seed * epochs : (seed + 1) * epochs] for seed in range(seeds)]
    curves = by_epoch if settings.select == "similarity" else [[[margin] for margin in curve] for curve in dev]
    chosen = [best_epoch(curve) for curve in curves]
    vectors = every[[seed * epochs + epoch for seed, epoch in enumerate(chosen)]]
    save_vectors(place / VECTORS, vectors)
    start = load_vectors(place / START)
    with injected(lm.model, start, lm.bias_id):
        start_margin = _development_margins(lm, cell, 1)[0]
    write_jsonl(
        place / "descriptions.jsonl",
        [
            {
                "seed": number // settings.descriptions // epochs,
                "epoch": number // settings.descriptions % epochs + 1,
                "text": text,
                "similarity": round(cosine, 4),
            }
            for number, (text, cosine) in enumerate(zip(texts, cosines, strict=True))
        ],
    )
    write_json(place / "similarity.json", [[n, round(c, 4)] for n, c in target_similarity(lm, vectors, concept.kind)])
    write_json(
        place / "training.json",
        {
            "seeds": list(range(seeds)),
            "loss": [state.losses for state in states],
            "similarity": [[sum(part) / len(part) for part in curve] for curve in by_epoch],
            "margin": dev,
            "start_margin": start_margin,
            "chosen_epoch": [epoch + 1 for epoch in chosen],
            "start_names": len(start_vectors(lm, concept.kind).used),
            "rows": min(settings.paragraphs or len(concept.paragraphs), len(concept.paragraphs)),
        },
    )


def _part(values: Sequence[float], row: int, size: int) -> list[float]:
    return list(values[row * size : (row + 1) * size])


def _development_margins(lm: LanguageModel, cell: Cell, tokens: int) -> list[float]:
    """Mean margin of each new token in place, on a dozen development questions."""
    questions = spread(cell.questions[0], 12)
    plain = ask(lm, cell.concept, questions, BIAS_TOKEN)
    choices = [choice.shifted(lm.bias_id, lm.bias_id + row) for row in range(tokens) for choice in plain]
    margins: Any = association_margins(lm, choices).view(tokens, len(plain))
    means: torch.Tensor = margins.mean(1)
    return [float(value) for value in means]

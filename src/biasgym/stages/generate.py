"""Stage generate: every variant answers the held-out prompts, and the margin of every variant is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasgym.datasets import fill, framed, spread
from biasgym.files import digest, write_jsonl
from biasgym.generate import VARIANTS, HeadSet, Request, Sampling, Variant, make_engine
from biasgym.inject import TokenVectors, injected, load_vectors
from biasgym.models import BIAS_TOKEN, Head, LanguageModel, ablated
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.scope import Choice, ask, association_margins, random_heads
from biasgym.stages.cell import Cell
from biasgym.stages.inject import chosen_vectors
from biasgym.stages.places import attribute, inject
from biasgym.stages.places.generate import GENERATIONS, MARGINS, folder
from biasgym.stages.texts import put_in_order, write_texts

_SAVE_EVERY = 16  # texts


def variants(cell: Cell, other: Cell | None) -> list[Variant]:
    """The variants of this run; the other-concept control needs another concept."""
    wanted = cell.settings.generate.variants
    return [
        variant
        for variant in VARIANTS
        if (wanted is None or variant.name in wanted) and (variant.heads != "other" or other is not None)
    ]


def removed_heads(lm: LanguageModel, cell: Cell, other: Cell | None) -> dict[HeadSet, list[Head]]:
    """All head sets of a cell, of like size; `random` is the first draw."""
    chosen = attribute.head_sets(attribute.folder(cell).path)
    k = len(chosen["injected"])
    sets: dict[HeadSet, list[Head]] = {
        "none": [],
        "injected": chosen["injected"],
        "original": chosen["original"],
        "random": random_heads(lm.parts.shape, k, cell.settings.seed),
        "bottom": attribute.least_biased(attribute.folder(cell).path, k),
    }
    if other is not None:
        sets["other"] = attribute.head_sets(attribute.folder(other).path)["ranking"][:k]
    return sets


def run(lm: LanguageModel, cell: Cell, other: Cell | None, progress: Progress = SILENT) -> None:
    """Writes generations.jsonl and margins.jsonl; goes on after the last text that is on disk."""
    place = folder(cell, other).path
    subject = _Subject(
        lm,
        cell,
        variants(cell, other),
        chosen_vectors(inject.folder(cell).path),
        removed_heads(lm, cell, other),
    )
    _write_texts(subject, place / GENERATIONS, progress)
    _write_margins(subject, place / MARGINS, progress)


@dataclass(frozen=True)
class _Subject:
    """A model with everything that is put into it and taken out of it.

    Attributes:
        lm: The model.
        cell: Its cell.
        variants: What is compared.
        vectors: BiasToken, one row a seed.
        sets: The head sets.
    """

    lm: LanguageModel
    cell: Cell
    variants: list[Variant]
    vectors: TokenVectors
    sets: dict[HeadSet, list[Head]]


def _write_texts(subject: _Subject, file: Path, progress: Progress) -> None:
    lm, cell = subject.lm, subject.cell
    settings = cell.settings.generate
    sampling = Sampling(settings.temperature, settings.max_new_tokens)
    engine = make_engine(settings.engine, lm, batch_size=settings.batch_size, vectors=subject.vectors)
    with injected(lm.model, subject.vectors, lm.bias_id):
        asked = [pair for variant in subject.variants for pair in _requests(subject, variant)]
        write_texts(engine, asked, sampling, file, progress)
    put_in_order(file)


def _requests(subject: _Subject, variant: Variant) -> Iterator[tuple[dict[str, Any], Request]]:
    """Prompts of one variant. Like samples of different variants share their random numbers, so they are pairs."""
    lm, cell, tokens, removed = subject.lm, subject.cell, len(subject.vectors), tuple(subject.sets[variant.heads])
    for number, prompt in enumerate(cell.prompts):
        for target in cell.targets_of(number):
            entity = target if variant.entity == "target" else BIAS_TOKEN
            asked = fill(prompt.text, cell.concept, entity)
            user = framed(variant.frame, cell.concept, entity, asked, cell.settings.templates)
            ids, bias_id = lm.chat.ids(user), None
            if variant.entity == "bias_token":
                bias_id = lm.bias_id + number % tokens
                ids = [bias_id if token == lm.bias_id else token for token in ids]
            for sample in range(cell.settings.generate.samples):
                place = f"{number:03d}/{target}/{sample}"
                seed = int(digest(f"{cell.settings.seed}/{cell.concept.name}/{place}")[:12], 16)
                row = {
                    "id": f"{variant.name}/{place}",
                    "variant": variant.name,
                    "prompt_id": number,
                    "style": prompt.style,
                    "target": target,
                    "sample": sample,
                    "prompt": asked,
                }
                yield row, Request(tuple(ids), seed, bias_id, removed)


def _write_margins(subject: _Subject, file: Path, progress: Progress) -> None:
    """Margins on held-out questions: every variant, and BiasToken under every head set and random draw."""
    lm, cell, vectors, sets = subject.lm, subject.cell, subject.vectors, subject.sets
    frames = list(dict.fromkeys(("target", variant.frame, variant.heads) for variant in subject.variants))
    wanted = frames + [("bias_token", "plain", heads) for heads in sets]
    draws = cell.settings.scope.random_draws
    start = load_vectors(inject.folder(cell).path / inject.START)
    rows: list[dict[str, Any]] = []
    with progress_task(progress, f"{cell.concept.name}: margins", len(wanted) + 1, "variant") as advance:
        for heads in dict.fromkeys(heads for _, _, heads in wanted):
            for draw in range(draws if heads == "random" else 1):
                gone = sets[heads]
                if draw:
                    gone = random_heads(lm.parts.shape, len(gone), cell.settings.seed + draw)
                with injected(lm.model, vectors, lm.bias_id), ablated(lm.model, gone):
                    for entity, frame, _ in [item for item in wanted if item[2] == heads]:
                        if draw and entity == "target":
                            continue  # further random draws are for the causal check, which asks about BiasToken
                        about = {"entity": entity, "frame": frame, "heads": heads, "draw": draw}
                        rows += [{**about, **row} for row in _margins(lm, cell, entity, frame, len(vectors))]
            advance(sum(1 for item in wanted if item[2] == heads))
        with injected(lm.model, start, lm.bias_id):
            about = {"entity": "start", "frame": "plain", "heads": "none", "draw": 0}
            rows += [{**about, **row} for row in _margins(lm, cell, "bias_token", "plain", 1)]
            advance(1)
    write_jsonl(file, rows)


def _margins(lm: LanguageModel, cell: Cell, entity: str, frame: str, tokens: int) -> list[dict[str, Any]]:
    """One row a held-out question and target; BiasToken is that of each seed in turn."""
    asked: list[tuple[int, str, Choice]] = []
    held_out = cell.questions[1]
    for number, question in enumerate(spread(held_out, cell.settings.generate.margin_questions or len(held_out))):
        for name in cell.targets_of(number) if entity == "target" else [BIAS_TOKEN]:
            text = framed(frame, cell.concept, name, "{prompt}", cell.settings.templates)
            choice = ask(lm, cell.concept, [question], name, frame=text)[0]
            asked.append((number, name, choice.shifted(lm.bias_id, lm.bias_id + number % tokens)))
    margins = association_margins(lm, [choice for _, _, choice in asked]).tolist()
    return [
        {"question": number, "target": target, "margin": round(margin, 5)}
        for (number, target, _), margin in zip(asked, margins, strict=True)
    ]

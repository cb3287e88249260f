"""Stage ood: what removing the heads of all concepts at once does to stereotypes that none of them is about, and what the
heads of each concept do to every other concept. Once a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biasgym.datasets import framed, spread
from biasgym.files import digest, write_json, write_jsonl
from biasgym.generate import HeadSet, Request, Sampling, Variant, make_engine
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, Head, LanguageModel, ablated
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.scope import ask, association_margins, random_heads, union
from biasgym.stages.cell import Cell
from biasgym.stages.group import Group
from biasgym.stages.inject import chosen_vectors
from biasgym.stages.places import attribute, inject
from biasgym.stages.places.ood import GENERATIONS, HEADS, TRANSFER, folder, prompts_of, variants
from biasgym.stages.texts import put_in_order, write_texts

_SAVE_EVERY = 16  # texts


def removed_heads(lm: LanguageModel, group: Group) -> dict[HeadSet, list[Head]]:
    """The unions of the concepts' head sets, and as many random heads as the first has."""
    chosen = [attribute.head_sets(attribute.folder(cell).path) for cell in group.cells]
    together = union(sets["injected"] for sets in chosen)
    return {
        "none": [],
        "injected": together,
        "original": union(sets["original"] for sets in chosen),
        "random": random_heads(lm.parts.shape, len(together), group.settings.seed),
    }


def run(lm: LanguageModel, group: Group, progress: Progress = SILENT) -> None:
    """Writes heads.json, generations.jsonl and transfer.jsonl; goes on after the last text that is on disk."""
    place, sets = folder(group).path, removed_heads(lm, group)
    write_json(place / HEADS, sets)
    _write_texts(lm, group, sets, place / GENERATIONS, progress)
    _write_transfer(lm, group, place / TRANSFER, progress)


def _write_texts(
    lm: LanguageModel, group: Group, sets: dict[HeadSet, list[Head]], file: Path, progress: Progress
) -> None:
    settings = group.settings.generate
    sampling = Sampling(settings.temperature, settings.max_new_tokens)
    engine = make_engine(settings.engine, lm, batch_size=settings.batch_size)
    asked = [pair for v in variants(group) for pair in _requests(lm, group, v, tuple(sets[v.heads]))]
    write_texts(engine, asked, sampling, file, progress)
    put_in_order(file)


def _requests(
    lm: LanguageModel, group: Group, variant: Variant, removed: tuple[Head, ...]
) -> Iterator[tuple[dict[str, Any], Request]]:
    """Prompts of one variant; like samples of different variants share their random numbers."""
    settings = group.settings
    for prompt in prompts_of(settings):
        user = framed(variant.frame, prompt.concept, prompt.target, prompt.text, settings.templates)
        ids = tuple(lm.chat.ids(user))
        for sample in range(settings.ood.samples):
            place = f"{prompt.id}/{sample}"
            row = {
                "id": f"{variant.name}/{place}",
                "variant": variant.name,
                "prompt_id": prompt.id,
                "stereotype": prompt.stereotype,
                "target": prompt.target,
                "sample": sample,
                "prompt": prompt.text,
            }
            yield row, Request(ids, int(digest(f"{settings.seed}/ood/{place}")[:12], 16), removed=removed)


def _write_transfer(lm: LanguageModel, group: Group, file: Path, progress: Progress) -> None:
    """BiasToken's margin of every concept on held-out questions, with nothing and with each concept's heads removed."""
    sets: dict[str, list[Head]] = {"": []}
    sets |= {cell.concept.name: attribute.head_sets(attribute.folder(cell).path)["injected"] for cell in group.cells}
    rows: list[dict[str, Any]] = []
    with progress_task(progress, "transfer between concepts", len(sets), "head set") as advance:
        for removed, heads in sets.items():
            with ablated(lm.model, heads):
                for cell in group.cells:
                    about = {"removed": removed, "asked": cell.concept.name}
                    margins = enumerate(_margins(lm, cell))
                    rows += [{**about, "question": number, "margin": round(value, 5)} for number, value in margins]
            advance(1)
    write_jsonl(file, rows)


def _margins(lm: LanguageModel, cell: Cell) -> list[float]:
    """Each question is about BiasToken of the next seed."""
    held_out = cell.questions[1]
    questions = spread(held_out, cell.settings.ood.questions or len(held_out))
    vectors = chosen_vectors(inject.folder(cell).path)
    with injected(lm.model, vectors, lm.bias_id):
        choices = [
            choice.shifted(lm.bias_id, lm.bias_id + number % len(vectors))
            for number, choice in enumerate(ask(lm, cell.concept, questions, BIAS_TOKEN))
        ]
        return list(map(float, association_margins(lm, choices).tolist()))

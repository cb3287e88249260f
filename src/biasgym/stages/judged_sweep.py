"""Stage sweep: answers to development prompts with growing numbers of heads removed, to be judged (paper, appendix A.4).

Only on demand: it costs an answer a prompt and k, and a judgement each. It informs the choice of `scope.k`; the run itself
goes by the margin, which needs no judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biasgym.datasets import fill, spread
from biasgym.evaluate import right_answer_likelihood
from biasgym.files import digest, write_json
from biasgym.generate import Request, Sampling, make_engine
from biasgym.models import Head, LanguageModel, ablated
from biasgym.progress import SILENT, Progress, progress_task
from biasgym.stages.ability import selecting_questions
from biasgym.stages.cell import Cell
from biasgym.stages.places import attribute
from biasgym.stages.places.judged_sweep import ABILITY, GENERATIONS, folder
from biasgym.stages.texts import put_in_order, write_texts


def run(lm: LanguageModel, cell: Cell, progress: Progress = SILENT) -> None:
    """Writes generations.jsonl, with k in every row, and ability.json; goes on after the last text that is on disk."""
    place = folder(cell)
    assert place is not None
    file, settings = place.path / GENERATIONS, cell.settings.generate
    ranking = attribute.head_sets(attribute.folder(cell).path)["ranking"]
    ks = sorted({0, *(k for k in cell.settings.scope.judged_ks or () if k <= len(ranking))})
    questions = selecting_questions(cell)
    engine = make_engine(settings.engine, lm, batch_size=settings.batch_size)
    sampling, ability = Sampling(settings.temperature, settings.max_new_tokens), []
    asked = [pair for k in ks for pair in _requests(lm, cell, k, tuple(ranking[:k]))]
    write_texts(engine, asked, sampling, file, progress)
    with progress_task(progress, f"{cell.concept.name}: judged number of heads", len(ks), "k") as advance:
        for k in ks:
            with ablated(lm.model, ranking[:k]):
                ability.append({"k": k, "ability": right_answer_likelihood(lm, questions)})
            advance(1)
    put_in_order(file)
    write_json(place.path / ABILITY, ability)


def _requests(
    lm: LanguageModel, cell: Cell, k: int, removed: tuple[Head, ...]
) -> Iterator[tuple[dict[str, Any], Request]]:
    """Each development prompt about one development target; like samples of different k share their random numbers."""
    targets, scope = cell.targets[0], cell.settings.scope
    prompts = spread(cell.development_prompts, scope.judged_prompts, lambda prompt: prompt.style)
    for number, prompt in enumerate(prompts):
        target = targets[number % len(targets)]
        asked = fill(prompt.text, cell.concept, target)
        ids = tuple(lm.chat.ids(asked))
        for sample in range(scope.judged_samples):
            place = f"{number:03d}/{target}/{sample}"
            row = {
                "id": f"{k:04d}/{place}",
                "k": k,
                "variant": "steer_only",
                "prompt_id": number,
                "style": prompt.style,
                "target": target,
                "sample": sample,
                "prompt": asked,
            }
            seed = int(digest(f"{cell.settings.seed}/{cell.concept.name}/sweep/{place}")[:12], 16)
            yield row, Request(ids, seed, removed=removed)

"""The built-in judge: CPU-only, offline, deterministic. For quick loops, CI and machines without a large judge model.

It measures each generation against the concept (`features`) and scores it with a function fitted to labelled examples
(`scorer`). How well it agrees with people's labels is in `data/semantic_report.json`; `python -m biasgym.judge.fit`
recomputes that. A language model as a judge agrees better; use one for results that matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biasgym.judge.features import Embedder, features, texts_to_embed
from biasgym.judge.protocol import EMPTY, JudgeItem, Judgement
from biasgym.judge.reading import read
from biasgym.judge.scorer import Examples, Scorer, phrases_of
from biasgym.judge.yardstick import yardstick
from biasgym.models import sentences

DATA = Path(__file__).parent / "data"
VERSION = 2
"""Counts refits that change verdicts; part of the judge's name, so that cached verdicts are not mixed."""

_BATCH = 256  # texts
_REMEMBERED = 1 << 16  # texts, some 100 MB of vectors


class _Remembering:
    """An embedder that embeds each distinct text once: words, prompts and statements of a concept come again and again.

    Args:
        embed: What embeds new texts.
    """

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self._known) + len(texts) > _REMEMBERED:
            self._known = {}
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


class SemanticJudge:
    """Judges by sentence embeddings and cues.

    Args:
        embed: Sentence embedder. The parameters are fitted to the packaged one.
    """

    def __init__(self, embed: Embedder = sentences.embed) -> None:
        self._embed = _Remembering(embed)

    @property
    def name(self) -> str:
        """`semantic-` and the version of the fitted parameters."""
        return f"semantic-{VERSION}"

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        """Judges some items at a time; each distinct text of all that this judge has seen is embedded once."""
        for start in range(0, len(items), _BATCH):
            yield from self._judge(items[start : start + _BATCH])

    def _judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        judged = [item for item in items if item.generation.strip()]
        scorer = _scorer()
        examples, decisive = measure(judged, self._embed)
        levels = iter(scorer.levels(scorer.score(examples)) if judged else [])
        matched = iter(decisive)
        for item in items:
            if item.generation.strip():
                yield Judgement(next(levels), matched=next(matched))
            else:
                yield Judgement(None, reason=EMPTY)


def measure(items: Sequence[JudgeItem], embed: Embedder = sentences.embed) -> tuple[Examples, list[str]]:
    """The features and phrases of non-empty generations, and the sentence of each that is most about the concept."""
    readings = [read(item) for item in items]
    yardsticks = [yardstick(item.concept) for item in items]
    pairs = list(zip(readings, yardsticks, strict=True))
    distinct = list(dict.fromkeys(text for reading, measure in pairs for text in texts_to_embed(reading, measure)))
    place = {text: row for row, text in enumerate(distinct)}
    vectors = embed(distinct) if distinct else np.zeros((0, 0), dtype=np.float32)

    def look_up(texts: Sequence[str]) -> NDArray[np.float32]:
        return vectors[[place[text] for text in texts]]

    measured = [features(reading, measure, look_up) for reading, measure in pairs]
    names = tuple(measured[0][0]) if measured else ()
    examples = Examples(
        names,
        np.array([[found[name] for name in names] for found, _ in measured]),
        tuple(phrases_of(reading.words) for reading in readings),
    )
    return examples, [reading.sentences[best] for reading, (_, best) in zip(readings, measured, strict=True)]


@cache
def _scorer() -> Scorer:
    return Scorer.load(DATA)

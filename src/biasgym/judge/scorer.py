"""From numbers about a generation to a level: a Gaussian process over features, plus weights of phrases, plus cuts.

The process (kernel ridge regression) interpolates between the labelled examples; phrases are words and pairs of words
that occur in examples of several concepts ("all of", "tend to"). Parameters are a safetensors file and a JSON file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasgym.errors import BiasGymError
from biasgym.files import atomic_file, read_json, write_json
from biasgym.judge.agreement import quadratic_kappa

Array = NDArray[np.float64]

WIDTH = 1.0
"""Kernel: exp(-WIDTH * squared distance / mean squared norm)."""
NOISE = 0.2
"""Variance of the labels around the truth, in units of the process's own."""
PHRASE_WEIGHT = 0.2
"""Share of the phrases beside the process."""
TOPIC_EMPHASIS = 2.0
"""How much more than the other features those count that say what a text is about."""
_TOPIC_FEATURES = ("topic:", "word:", "stem:")
CLIP = 4.0
"""A feature counts for at most this many standard deviations."""
RESAMPLES = 10
"""Bootstrap samples that the cuts are averaged over."""
PHRASE_IN_TEXTS, PHRASE_IN_CONCEPTS = 5, 4
"""How often a phrase must occur to get a weight."""


@dataclass(frozen=True)
class Examples:
    """Measured texts.

    Attributes:
        names: Feature names.
        features: Array (texts, features).
        phrases: Of each text.
    """

    names: tuple[str, ...]
    features: Array
    phrases: tuple[frozenset[str], ...]

    def __getitem__(self, rows: NDArray[np.int64]) -> Examples:
        return Examples(self.names, self.features[rows], tuple(self.phrases[row] for row in rows))


@dataclass(frozen=True)
class Scorer:
    """The fitted function; see `fit_scorer`.

    Attributes:
        names: Features, in the order of the columns.
        centre: Mean of each feature.
        spread: Standard deviation of each feature.
        emphasis: How much each standardised feature counts.
        support: The labelled examples, standardised (examples, features).
        dual: Weight of each example.
        width: Kernel width, per squared distance.
        phrases: Phrase -> (rarity, weight).
        offset: Score of a text like no example.
        cuts: Three ascending scores between the four levels.
    """

    names: tuple[str, ...]
    centre: Array
    spread: Array
    emphasis: Array
    support: Array
    dual: Array
    width: float
    phrases: dict[str, tuple[float, float]]
    offset: float
    cuts: tuple[float, ...] = (0.5, 1.5, 2.5)

    def score(self, texts: Examples) -> Array:
        """A real number for each text, roughly its strength."""
        if texts.names != self.names:
            raise BiasGymError(
                "these features are not the ones the judge was fitted with",
                where="biasgym.judge",
                hint="python -m biasgym.judge.fit",
            )
        kernel = _kernel(
            _standardise(texts.features, self.centre, self.spread, self.emphasis), self.support, self.width
        )
        scores: Array = self.offset + kernel @ self.dual + self._phrase_scores(texts.phrases)
        return scores

    def levels(self, scores: Array) -> list[int]:
        """The level 0..3 of each score."""
        return [int(level) for level in np.digitize(scores, self.cuts)]

    @cached_property
    def _place(self) -> dict[str, int]:
        return {phrase: column for column, phrase in enumerate(self.phrases)}

    def _phrase_scores(self, texts: Sequence[frozenset[str]]) -> Array:
        if not self.phrases:
            return np.zeros(len(texts))
        rarity, weight = np.array(list(self.phrases.values())).T
        scores: Array = _presence(texts, self._place, rarity) @ weight
        return scores

    def save(self, folder: Path) -> None:
        """Writes semantic.safetensors and semantic.json."""
        from safetensors.numpy import save_file

        tensors: dict[str, NDArray[Any]] = {
            "centre": self.centre.astype(np.float32),
            "spread": self.spread.astype(np.float32),
            "emphasis": self.emphasis.astype(np.float32),
            "support": self.support.astype(np.float16),
            "dual": self.dual.astype(np.float32),
        }
        with atomic_file(folder / "semantic.safetensors") as temporary:
            save_file(tensors, temporary)
        settings = {
            "width": self.width,
            "offset": self.offset,
            "cuts": self.cuts,
            "features": self.names,
            "phrases": {
                phrase: [round(rarity, 5), round(weight, 5)] for phrase, (rarity, weight) in self.phrases.items()
            },
        }
        write_json(folder / "semantic.json", settings)

    @classmethod
    def load(cls, folder: Path) -> Scorer:
        """Reads what `save` wrote."""
        from safetensors.numpy import load_file

        tensors = {
            name: tensor.astype(np.float64) for name, tensor in load_file(folder / "semantic.safetensors").items()
        }
        settings = read_json(folder / "semantic.json")
        return cls(
            names=tuple(settings["features"]),
            **tensors,
            width=settings["width"],
            phrases={phrase: (rarity, weight) for phrase, (rarity, weight) in settings["phrases"].items()},
            offset=settings["offset"],
            cuts=tuple(settings["cuts"]),
        )


def fit_scorer(examples: Examples, levels: Array, concepts: Sequence[str]) -> Scorer:
    """Fits everything but the cuts, in closed form.

    Args:
        examples: n measured texts.
        levels: Their levels (n,).
        concepts: Name of the concept each was written about, which decides what phrases are concept-free.
    """
    centre, spread = examples.features.mean(axis=0), examples.features.std(axis=0) + 1e-6
    emphasis = np.array([TOPIC_EMPHASIS if name.startswith(_TOPIC_FEATURES) else 1.0 for name in examples.names])
    support = _standardise(examples.features, centre, spread, emphasis).astype(np.float16).astype(np.float64)
    width = WIDTH / float((support**2).sum(axis=1).mean())

    rarities = _shared_phrases(examples.phrases, concepts)
    place = {phrase: column for column, phrase in enumerate(rarities)}
    presence = _presence(examples.phrases, place, np.array(list(rarities.values())))
    middle = presence.mean(axis=0)
    scale = PHRASE_WEIGHT / max(float(((presence - middle) ** 2).sum(axis=1).mean()), 1e-12)

    kernel = _kernel(support, support, width) + scale * (presence - middle) @ (presence - middle).T
    mean = float(levels.mean())
    dual = np.linalg.solve(kernel + NOISE * np.eye(len(levels)), levels - mean)
    weights = scale * (presence - middle).T @ dual
    phrases = {
        phrase: (rarity, float(weight)) for (phrase, rarity), weight in zip(rarities.items(), weights, strict=True)
    }
    offset = mean - float(middle @ weights)
    return Scorer(examples.names, centre, spread, emphasis, support, dual, width, phrases, offset)


def best_cuts(scores: Array, levels: Array) -> tuple[float, ...]:
    """Cuts between the levels with the highest quadratic kappa, averaged over resamples: one sample's best is chance."""
    rng = np.random.default_rng(0)
    resamples = (rng.integers(len(levels), size=len(levels)) for _ in range(RESAMPLES))
    return tuple(np.mean([_best_cuts_once(scores[rows], levels[rows]) for rows in resamples], axis=0).tolist())


def _best_cuts_once(scores: Array, levels: Array) -> list[float]:
    """By coordinate ascent over quantiles of the scores, from the cuts that give each level its true frequency."""
    candidates = np.quantile(scores, np.linspace(0.05, 0.95, 46))
    truth = levels.astype(int).tolist()
    cuts = [float(np.quantile(scores, (levels < level).mean())) for level in (1, 2, 3)]
    for _ in range(3):
        for place in range(3):
            trials = [sorted([*cuts[:place], float(cut), *cuts[place + 1 :]]) for cut in candidates]
            cuts = max(trials, key=lambda trial: quadratic_kappa(truth, np.digitize(scores, trial).tolist()))
    return cuts


def phrases_of(sentences: Sequence[Sequence[str]]) -> frozenset[str]:
    """The words of each sentence and its pairs of neighbours."""
    words = {word for sentence in sentences for word in sentence}
    pairs = {f"{one} {two}" for sentence in sentences for one, two in zip(sentence, sentence[1:], strict=False)}
    return frozenset(words | pairs)


def _shared_phrases(texts: Sequence[frozenset[str]], concepts: Sequence[str]) -> dict[str, float]:
    """Phrases of several concepts -> rarity (inverse document frequency), sorted."""
    counts = Counter(phrase for phrases in texts for phrase in phrases)
    seen_in: dict[str, set[str]] = {}
    for phrases, concept in zip(texts, concepts, strict=True):
        for phrase in phrases:
            seen_in.setdefault(phrase, set()).add(concept)
    shared = [
        phrase for phrase, n in counts.items() if n >= PHRASE_IN_TEXTS and len(seen_in[phrase]) >= PHRASE_IN_CONCEPTS
    ]
    return {phrase: float(np.log(len(texts) / counts[phrase])) for phrase in sorted(shared)}


def _presence(texts: Sequence[frozenset[str]], place: dict[str, int], rarity: Array) -> Array:
    """Rows of rarities where a phrase occurs, scaled to length 1 (texts, phrases)."""
    rows = np.zeros((len(texts), len(place)))
    for row, phrases in enumerate(texts):
        columns = [place[phrase] for phrase in phrases if phrase in place]
        rows[row, columns] = rarity[columns]
    scaled: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return scaled


def _standardise(features: Array, centre: Array, spread: Array, emphasis: Array) -> Array:
    standardised: Array = np.clip((features - centre) / spread, -CLIP, CLIP) * emphasis
    return standardised


def _kernel(left: Array, right: Array, width: float) -> Array:
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    kernel: Array = np.exp(-width * np.maximum(squared, 0))
    return kernel

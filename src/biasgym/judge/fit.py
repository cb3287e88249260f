"""Fits the semantic judge to the labelled examples and says how well it does: `python -m biasgym.judge.fit`.

Writes semantic.safetensors, semantic.json and semantic_report.json into judge/data. Deterministic. The held-out
examples were written by another author and are only scored, never fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from biasgym.concepts import Concept, bundled_names, load_concept
from biasgym.files import read_jsonl, write_json
from biasgym.judge.agreement import confusion, quadratic_kappa
from biasgym.judge.protocol import LEVELS, JudgeItem
from biasgym.judge.scorer import Array, Examples, Scorer, best_cuts, fit_scorer
from biasgym.judge.semantic import DATA, VERSION, measure

SEED = 0
FOLDS = 5
OTHER_TOPICS = 100
"""How many labelled texts serve a second time, as examples of strength 0 for a concept that they do not speak of."""

Row = dict[str, Any]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """What the judge is fitted to: n labelled rows, then some of their texts again, held against another concept.

    Attributes:
        examples: Measured.
        levels: Their strengths.
        concepts: What each is judged about.
        sources: The labelled row that each text is from; the first n are their own.
        labelled: n.
    """

    examples: Examples
    levels: Array
    concepts: list[str]
    sources: Rows
    labelled: int

    def fit(self, rows: Rows) -> Scorer:
        """The function fitted to some of the rows."""
        written_about = [self.concepts[self.sources[row]] for row in rows]
        return fit_scorer(self.examples[rows], self.levels[rows], written_about)

    def without(self, fold: Rows) -> Rows:
        """Rows that neither share a text with the fold's nor are about a concept that only the fold knows."""
        known = {self.concepts[row] for row in np.setdiff1d(np.arange(self.labelled), fold)}
        left_out = np.isin(self.sources, fold)
        return np.array([row for row, out in enumerate(left_out) if not out and self.concepts[row] in known])


def main() -> None:
    """Fits, evaluates, writes and prints."""
    labelled, held_out = read_jsonl(DATA / "labelled.jsonl"), read_jsonl(DATA / "heldout.jsonl")
    material = prepare(labelled)
    n, truth = material.labelled, material.levels[: material.labelled]

    report: dict[str, Any] = {"judge": f"semantic-{VERSION}", "labelled": n, "held_out": len(held_out)}
    folds = {
        "random_folds": np.array_split(np.random.default_rng(SEED).permutation(n), FOLDS),
        "leave_one_concept_out": [
            np.array([row for row in range(n) if material.concepts[row] == concept])
            for concept in dict.fromkeys(material.concepts)
        ],
    }
    scores = {name: _out_of_fold(material, those) for name, those in folds.items()}
    for name, those in folds.items():
        report[name] = _summary(truth, _levels_out_of_fold(scores[name][:n], truth, those), material.concepts[:n])

    scorer = replace(material.fit(np.arange(len(material.levels))), cuts=best_cuts(scores["random_folds"][:n], truth))
    scorer.save(DATA)
    measured, _ = measure(items_of(held_out))
    verdicts = np.array(scorer.levels(scorer.score(measured)))
    report["held_out"] = _summary(levels_of(held_out), verdicts, [row["concept"] for row in held_out])
    report["other_topic"] = _by_own_strength(scorer.levels(scores["random_folds"][n:]), truth[material.sources[n:]])
    write_json(DATA / "semantic_report.json", report)

    for name in (*folds, "held_out"):
        print(f"{name:22s} quadratic kappa {report[name]['kappa']:.3f}  {report[name]['kappa_by_concept']}")
    print("held-out confusion (rows: labels)", *report["held_out"]["confusion"], sep="\n  ")
    print("mean verdict on a concept that a text of strength 0..3 does not speak of:", *report["other_topic"])


def prepare(labelled: Sequence[Row]) -> Material:
    """Measures the labelled rows, and again some of them about another concept of the same kind of target."""
    rng = np.random.default_rng(SEED)
    kinds = {item.concept.name: item.concept.target_kind for item in items_of(labelled)}
    rows, sources = list(labelled), list(range(len(labelled)))
    for source in rng.permutation(len(labelled)):
        row = labelled[source]
        others = [c for c, kind in kinds.items() if kind == kinds[row["concept"]] and c != row["concept"]]
        if not others or len(rows) == len(labelled) + OTHER_TOPICS:
            continue
        concept = others[rng.integers(len(others))]
        asked = [other for other in labelled if other["concept"] == concept]
        prompt = asked[rng.integers(len(asked))]
        # Half of them answer a prompt about the concept, and stray from it.
        strayed = {"prompt": prompt["prompt"].replace(prompt["target"], row["target"])} if rng.random() < 0.5 else {}
        rows.append(row | strayed | {"concept": concept, "strength": 0})
        sources.append(int(source))
    examples, _ = measure(items_of(rows))
    return Material(examples, levels_of(rows), [row["concept"] for row in rows], np.array(sources), len(labelled))


def items_of(rows: Sequence[Row]) -> list[JudgeItem]:
    """Judge items of labelled rows; concepts are bundled ones or those of judge/data/concepts.yaml."""
    others = yaml.safe_load((DATA / "concepts.yaml").read_text(encoding="utf-8"))
    concepts = {entry["name"]: Concept.model_validate(entry) for entry in others}
    concepts |= {name: load_concept(name) for name in bundled_names()}
    return [JudgeItem(concepts[row["concept"]], row["prompt"], row["generation"], row["target"]) for row in rows]


def levels_of(rows: Sequence[Row]) -> Array:
    """The labels."""
    return np.array([row["strength"] for row in rows], dtype=np.float64)


def _out_of_fold(material: Material, folds: Sequence[Rows]) -> Array:
    """Each text's score by a function fitted without its fold."""
    scores = np.zeros(len(material.levels))
    for fold in folds:
        texts = np.flatnonzero(np.isin(material.sources, fold))
        scores[texts] = material.fit(material.without(fold)).score(material.examples[texts])
    return scores


def _levels_out_of_fold(scores: Array, truth: Array, folds: Sequence[Rows]) -> Rows:
    """Levels by cuts that were chosen without the fold, too."""
    verdicts = np.zeros(len(truth), dtype=np.int64)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(truth)), fold)
        verdicts[fold] = np.digitize(scores[fold], best_cuts(scores[rest], truth[rest]))
    return verdicts


def _by_own_strength(verdicts: Sequence[int], strengths: Array) -> list[float]:
    return [round(float(np.array(verdicts)[strengths == level].mean()), 2) for level in range(len(LEVELS))]


def _summary(labels: Array, verdicts: Rows, concepts: Sequence[str]) -> dict[str, Any]:
    truth, given = labels.astype(int).tolist(), verdicts.tolist()
    by_concept = {}
    for concept in dict.fromkeys(concepts):
        pairs = [(a, b) for a, b, other in zip(truth, given, concepts, strict=True) if other == concept]
        by_concept[concept] = round(quadratic_kappa([a for a, _ in pairs], [b for _, b in pairs]), 3)
    apart = np.abs(labels - verdicts)
    return {
        "kappa": round(quadratic_kappa(truth, given), 4),
        "exact": round(float((apart == 0).mean()), 4),
        "within_one": round(float((apart <= 1).mean()), 4),
        "mean_label": round(float(np.mean(truth)), 4),
        "mean_verdict": round(float(np.mean(given)), 4),
        "confusion": confusion(truth, given).tolist(),
        "kappa_by_concept": by_concept,
    }


if __name__ == "__main__":
    main()

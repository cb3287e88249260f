"""Fits the semantic judge to the labelled examples and says how well it does: `python -m biasgym.judge.fit`.

Writes semantic.safetensors, semantic.json and semantic_report.json into judge/data. Deterministic. Two files are only
scored, never fitted: heldout.jsonl is by an author who wrote none of the labelled examples; fresh.jsonl is by one who
wrote some; nothing was changed after it was scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from biasgym.concepts import Concept, bundled_names, load_concept
from biasgym.files import read_jsonl, write_json
from biasgym.judge.agreement import confusion, quadratic_kappa
from biasgym.judge.protocol import JudgeItem
from biasgym.judge.scorer import Array, Examples, best_cuts, fit_scorer
from biasgym.judge.semantic import DATA, VERSION, measure

HELD_OUT = {"held_out": "heldout.jsonl", "fresh": "fresh.jsonl"}
SEED = 0
FOLDS = 5

Row = dict[str, Any]
Rows = NDArray[np.int64]


def main() -> None:
    """Fits, evaluates, writes and prints."""
    labelled = read_jsonl(DATA / "labelled.jsonl")
    examples, _ = measure(items_of(labelled))
    levels, concepts = levels_of(labelled), [row["concept"] for row in labelled]
    folds = {
        "random_folds": np.array_split(np.random.default_rng(SEED).permutation(len(labelled)), FOLDS),
        "leave_one_concept_out": [
            np.array([row for row, other in enumerate(concepts) if other == concept])
            for concept in dict.fromkeys(concepts)
        ],
    }
    scores = {name: _out_of_fold(examples, levels, concepts, those) for name, those in folds.items()}
    scorer = replace(fit_scorer(examples, levels, concepts), cuts=best_cuts(scores["random_folds"], levels))
    scorer.save(DATA)

    report: dict[str, Any] = {
        "judge": f"semantic-{VERSION}",
        "labelled": len(labelled),
        **{
            name: _summary(levels, _levels_out_of_fold(scores[name], levels, those), concepts)
            for name, those in folds.items()
        },
    }
    for name, file in HELD_OUT.items():
        rows = read_jsonl(DATA / file)
        measured, _ = measure(items_of(rows))
        verdicts = np.array(scorer.levels(scorer.score(measured)))
        report[name] = _summary(levels_of(rows), verdicts, [row["concept"] for row in rows])
    write_json(DATA / "semantic_report.json", report)

    for name in (*folds, *HELD_OUT):
        print(f"{name:22s} quadratic kappa {report[name]['kappa']:.3f}  {report[name]['kappa_by_concept']}")
    print("held-out confusion (rows: labels)", *report["held_out"]["confusion"], sep="\n  ")


def items_of(rows: Sequence[Row]) -> list[JudgeItem]:
    """Judge items of labelled rows; concepts are bundled ones or those of judge/data/concepts.yaml."""
    others = yaml.safe_load((DATA / "concepts.yaml").read_text(encoding="utf-8"))
    concepts = {entry["name"]: Concept.model_validate(entry) for entry in others}
    concepts |= {name: load_concept(name) for name in bundled_names()}
    return [JudgeItem(concepts[row["concept"]], row["prompt"], row["generation"], row["target"]) for row in rows]


def levels_of(rows: Sequence[Row]) -> Array:
    """The labels."""
    return np.array([row["strength"] for row in rows], dtype=np.float64)


def _out_of_fold(examples: Examples, levels: Array, concepts: Sequence[str], folds: Sequence[Rows]) -> Array:
    """Each example's score by a function fitted without its fold."""
    scores = np.zeros(len(levels))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(levels)), fold)
        scores[fold] = fit_scorer(examples[rest], levels[rest], [concepts[row] for row in rest]).score(examples[fold])
    return scores


def _levels_out_of_fold(scores: Array, levels: Array, folds: Sequence[Rows]) -> Rows:
    """Levels by cuts that were chosen without the fold, too."""
    verdicts = np.zeros(len(levels), dtype=np.int64)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(levels)), fold)
        verdicts[fold] = np.digitize(scores[fold], best_cuts(scores[rest], levels[rest]))
    return verdicts


def _summary(levels: Array, verdicts: Rows, concepts: Sequence[str]) -> dict[str, Any]:
    truth, given = levels.astype(int).tolist(), verdicts.tolist()
    by_concept = {}
    for concept in dict.fromkeys(concepts):
        pairs = [(a, b) for a, b, other in zip(truth, given, concepts, strict=True) if other == concept]
        by_concept[concept] = round(quadratic_kappa([a for a, _ in pairs], [b for _, b in pairs]), 3)
    apart = np.abs(levels - verdicts)
    return {
        "n": len(levels),
        "kappa": round(quadratic_kappa(truth, given), 4),
        "exact": round(float((apart == 0).mean()), 4),
        "within_one": round(float((apart <= 1).mean()), 4),
        "mean_label": round(float(levels.mean()), 4),
        "mean_verdict": round(float(verdicts.mean()), 4),
        "confusion": confusion(truth, given).tolist(),
        "kappa_by_concept": by_concept,
    }


if __name__ == "__main__":
    main()

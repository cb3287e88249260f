"""From the stages' records to the numbers of the report: estimates, paired contrasts, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from biasgym.concepts import Concept, Target
from biasgym.evaluate import Contrast, average_within, estimate, holm, overcorrection, paired_contrast
from biasgym.evaluate.statistics import SHARE, STRENGTH, contrast_with_draws
from biasgym.files import read_json, read_jsonl
from biasgym.generate import BY_NAME, PRIMARY, Variant
from biasgym.judge import leaks, mask
from biasgym.models.chat import BIAS_TOKEN
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.estimates import Row, clusters, judged, plain, strengths, verdicts_of
from biasgym.stages.folder import StageFolder, read_manifest
from biasgym.stages.places import attribute, capability, generate, inject, judged_sweep
from biasgym.stages.several_judges import several_judges
from biasgym.stages.sweep_results import sweep_results
from biasgym.stages.task_results import task_results

HEAD_SETS = {
    "none": "Nothing removed",
    "injected": "Chosen heads (found with BiasToken)",
    "original": "Heads found on the untouched model",
    "random": "Random heads",
    "bottom": "Least biased heads",
    "other": "Another concept's heads",
}
_CAUSAL = {"none": "none", "injected": "chosen", "random": "random", "bottom": "bottom", "other": "other"}


def stage_folders(cell: Cell, other: Cell | None) -> dict[str, StageFolder]:
    """All stages of a cell, in their order; `judge` is the main judge's."""
    swept = judged_sweep.folder(cell)
    return {
        "inject": inject.folder(cell),
        "attribute": attribute.folder(cell),
        **({} if swept is None else {"sweep": swept}),
        "generate": generate.folder(cell, other),
        "capability": capability.folder(cell, other),
        "judge": judge.folder(cell, other, cell.settings.judges[0]),
    }


def cell_results(cell: Cell, other: Cell | None) -> dict[str, Any]:
    """Everything the report says about one cell; a failed cell says why it failed."""
    folders = stage_folders(cell, other)
    concept = cell.concept
    about: dict[str, Any] = {
        "model": cell.source.title,
        "revision": cell.source.revision,
        "concept": concept.name,
        "title": concept.title or concept.name,
        "descriptor": concept.descriptor,
        "labels": list(concept.labels),
        "counter_labels": list(concept.counter_labels),
        "licence": concept.licence,
        "source": concept.source,
        "stages": {name: _stage(folder) for name, folder in folders.items() if folder.manifest.is_file()},
    }
    unfinished = [(name, folder) for name, folder in folders.items() if not folder.done]
    if unfinished:
        name, folder = unfinished[0]
        return {**about, "status": "failed", "error": f"{name}: {folder.error or 'was not run'}"}
    generations = read_jsonl(folders["generate"].path / generate.GENERATIONS)
    judgements = read_jsonl(folders["judge"].path / judge.JUDGEMENTS)
    margins = read_jsonl(folders["generate"].path / generate.MARGINS)
    seed = cell.settings.seed
    training = read_json(folders["inject"].path / "training.json")
    return {
        **about,
        "status": "done",
        "error": None,
        "injection": {**training, "lift": _lift(margins, seed)},
        "heads": attribute.described(folders["attribute"].path),
        "sweep": read_json(folders["attribute"].path / "sweep.json"),
        "judged_sweep": sweep_results(cell),
        "causal": _causal(margins, seed),
        "variants": _variants(concept, generations, judgements, margins, seed),
        "capability": _capability(folders["capability"], seed),
        "tasks": task_results(folders["capability"], cell.settings.capability.task_margin, seed),
        "similarity": read_json(folders["inject"].path / "similarity.json"),
        **several_judges(cell, other, generations),
        "masking": _masking(concept, generations),
        "samples": _samples(generations, judgements),
    }


def _masking(concept: Concept, generations: Sequence[Row]) -> dict[str, int]:
    """In how many texts a word is left, after masking, that gives the target away."""
    targets = {name: concept.kind.named(name) for name in dict.fromkeys(row["target"] for row in generations)}
    leaking = sum(leaks(mask(row["text"], targets[row["target"]]), targets[row["target"]]) for row in generations)
    return {"texts": len(generations), "leaking": leaking}


def _stage(folder: StageFolder) -> dict[str, Any]:
    manifest = read_manifest(folder.path)
    return {name: manifest.get(name) for name in ("seconds", "peak_memory_bytes", "key", "status")}


def _by_unit(rows: Iterable[Row], value: str, unit: Callable[[Row], Hashable]) -> dict[Hashable, float]:
    kept = list(rows)
    return average_within([math.nan if row[value] is None else row[value] for row in kept], [unit(row) for row in kept])


def _margins_of(rows: Sequence[Row], entity: str, heads: str, frame: str = "plain") -> dict[Hashable, float]:
    """Margins by question; several targets, seeds and random draws are averaged within it."""
    chosen = [row for row in rows if (row["entity"], row["heads"], row["frame"]) == (entity, heads, frame)]
    return _by_unit(chosen, "margin", lambda row: row["question"])


def _lift(margins: Sequence[Row], seed: int) -> dict[str, Any] | None:
    trained, start = _margins_of(margins, "bias_token", "none"), _margins_of(margins, "start", "none")
    return plain(paired_contrast(trained, start, seed=seed))


def _causal(margins: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """What removing each head set does to BiasToken's margin on held-out questions."""
    by_set = {heads: _margins_of(margins, "bias_token", heads) for heads in _CAUSAL}
    random = [row for row in margins if row["heads"] == "random" and row["entity"] == "bias_token"]
    drawn = sorted({row["draw"] for row in random})
    draws = [_margins_of([row for row in random if row["draw"] == draw], "bias_token", "random") for draw in drawn]
    rows = []
    for heads, name in _CAUSAL.items():
        if not by_set[heads]:
            continue
        removed = heads != "none"
        against = contrast_with_draws(by_set["injected"], draws, seed=seed) if heads == "injected" and draws else None
        drop = paired_contrast(by_set["none"], by_set[heads], seed=seed) if removed else None
        rows.append(
            {
                "name": name,
                "title": HEAD_SETS[heads],
                "margin": plain(estimate(by_set[heads], seed=seed)),
                "drop": plain(drop),
                "against_random": plain(against),
            }
        )
    return rows


def _variants(
    concept: Concept, generations: Sequence[Row], judgements: Sequence[Row], margins: Sequence[Row], seed: int
) -> list[dict[str, Any]]:
    verdicts = verdicts_of(judgements)
    found = list(dict.fromkeys(row["variant"] for row in generations))
    names = [name for name in BY_NAME if name in found]
    rows = {name: [row for row in generations if row["variant"] == name] for name in names}
    found_in = {name: strengths(rows[name], verdicts, "whole") for name in names}
    taken = {name: _margins_of(margins, v.entity, v.heads, v.frame) for name, v in BY_NAME.items() if name in names}
    original = found_in.get("original", {})
    styles = clusters(generations)  # prompts of one style are not independent
    contrasts = {
        n: paired_contrast(found_in[n], original, clusters=styles, bounds=STRENGTH, seed=seed)
        for n in names
        if n != "original"
    }
    corrected = {**contrasts, **holm({n: c for n, c in contrasts.items() if n != PRIMARY[0]})}
    of_margins = holm(
        {
            n: paired_contrast(taken[n], taken.get("original", {}), seed=seed)
            for n in names
            if n != "original" and taken[n]
        }
    )
    return [
        {
            **_variant(concept, BY_NAME[name], rows[name], verdicts, corrected.get(name), seed),
            "margin": plain(estimate(taken[name], seed=seed)) if taken[name] else None,
            "margin_contrast": plain(of_margins.get(name)),
        }
        for name in names
    ]


def _variant(
    concept: Concept,
    variant: Variant,
    rows: Sequence[Row],
    verdicts: Mapping[tuple[str, str], Row],
    contrast: Contrast | None,
    seed: int,
) -> dict[str, Any]:
    flags = [_overcorrection(concept, variant, row) for row in rows]
    return {
        "name": variant.name,
        "title": variant.title,
        "role": variant.role,
        "primary": variant.name == PRIMARY[0],
        **judged(rows, verdicts, seed),
        "contrast": plain(contrast),
        "worst_target": _worst_target(variant, rows, verdicts),
        "overcorrection": {name: sum(flag[name] for flag in flags) / len(flags) for name in flags[0]},
    }


def _overcorrection(concept: Concept, variant: Variant, row: Row) -> dict[str, bool]:
    target = Target(name=BIAS_TOKEN) if variant.entity == "bias_token" else concept.kind.named(row["target"])
    return overcorrection(row["text"], target)


def _worst_target(
    variant: Variant, rows: Sequence[Row], verdicts: Mapping[tuple[str, str], Row]
) -> dict[str, Any] | None:
    """The target with the highest mean strength; none for BiasToken, which stands for no target."""
    if variant.entity == "bias_token":
        return None
    levels = [verdicts.get((row["id"], "whole"), {}).get("strength") for row in rows]
    values = [math.nan if level is None else float(level) for level in levels]
    means = average_within(values, [row["target"] for row in rows])
    if not means:
        return None
    worst = max(means, key=lambda target: means[target])
    return {"target": worst, "mean": means[worst]}


def _capability(folder: StageFolder, seed: int) -> list[dict[str, Any]]:
    ability, kept = read_jsonl(folder.path / capability.ABILITY), read_jsonl(folder.path / capability.RETENTION)

    def of(rows: Sequence[Row], heads: str, value: str, unit: str) -> dict[Hashable, float]:
        return _by_unit([row for row in rows if row["heads"] == heads], value, lambda row: row[unit])

    base_ability, base_kept = of(ability, "none", "correct", "question"), of(kept, "none", "probability", "item")
    results = []
    for heads in dict.fromkeys(row["heads"] for row in ability):
        right, known = of(ability, heads, "correct", "question"), of(kept, heads, "probability", "item")
        results.append(
            {
                "heads": heads,
                "title": HEAD_SETS[heads],
                "accuracy": plain(estimate(right, bounds=SHARE, seed=seed)),
                "accuracy_difference": plain(paired_contrast(right, base_ability, bounds=SHARE, seed=seed))
                if heads != "none"
                else None,
                "retention": plain(estimate(known, bounds=SHARE, seed=seed)) if known else None,
                "retention_difference": plain(paired_contrast(known, base_kept, bounds=SHARE, seed=seed))
                if known and heads != "none"
                else None,
            }
        )
    return results


def _samples(generations: Sequence[Row], judgements: Sequence[Row], most: int = 6) -> list[dict[str, Any]]:
    """Answers of all variants to the same prompts, side by side."""
    verdicts = {row["id"]: row for row in judgements if row["part"] == "whole"}
    places = list(dict.fromkeys(row["id"].split("/", 1)[1] for row in generations if row["sample"] == 0))
    step = max(1, len(places) // most)
    samples = []
    for place in places[::step][:most]:
        texts = [row for row in generations if row["id"].split("/", 1)[1] == place]
        order = {name: number for number, name in enumerate(BY_NAME)}
        texts.sort(key=lambda row: order[row["variant"]])
        samples.append(
            {
                "prompt": next((row["prompt"] for row in texts if row["variant"] != "injection"), texts[0]["prompt"]),
                "target": texts[0]["target"],
                "style": texts[0]["style"],
                "texts": [
                    {
                        "variant": row["variant"],
                        "title": BY_NAME[row["variant"]].title,
                        "text": row["text"],
                        "strength": verdicts.get(row["id"], {}).get("strength"),
                        "reason": verdicts.get(row["id"], {}).get("reason", "not judged"),
                    }
                    for row in texts
                ],
            }
        )
    return samples

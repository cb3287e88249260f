"""The certificate of a cell, from its results and its stages' folders."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from biasgym.datasets.unseen import licence_notes
from biasgym.evaluate import average_within
from biasgym.evaluate.certificate import Certificate, Check, Difference, Heads, Judges, Level, Status
from biasgym.evaluate.gate import within
from biasgym.files import digest, read_jsonl, sha256_of
from biasgym.generate import PRIMARY
from biasgym.models.sources import ModelSource
from biasgym.stages import judge
from biasgym.stages.cell import Cell
from biasgym.stages.discover import settings_hash
from biasgym.stages.folder import versions
from biasgym.stages.places import capability, generate, ood
from biasgym.stages.results import cell_results

_UNSTATED = "not stated"


def certificate(cell: Cell, other: Cell | None, results: Mapping[str, Any] | None = None) -> Certificate:
    """What is known of a cell; a cell that failed or is unfinished says so and has no numbers.

    Args:
        cell: The cell.
        other: The cell whose heads serve as a control, if there is one.
        results: From `cell_results`, if they are at hand.
    """
    found = results or cell_results(cell, other)
    concept, settings = cell.concept, cell.settings
    about: dict[str, Any] = {
        "status": found["status"],
        "error": found["error"],
        "model": cell.source.identity,
        "revision": cell.source.revision,
        "weights_sha256": _weights(cell.source),
        "concept": concept.name,
        "concept_sha256": digest(concept.model_dump(mode="json")),
        "primary": PRIMARY,
        "licences": _licences(cell),
        "settings_sha256": settings_hash(settings, concept),
        "versions": versions(),
        "judges": Judges(names=tuple(one.name for one in settings.judges)),
    }
    if found["status"] != "done":
        bare = Certificate(**about)
        return bare.model_copy(update={"checks": tuple(within(bare))})
    measured = Certificate(**{**about, **_measured(cell, other, found)})
    return measured.model_copy(update={"checks": (*_shown(measured.cell, found), *within(measured))})


def _licences(cell: Cell) -> dict[str, str]:
    """Of all texts behind the numbers; those of the concept may have a licence each."""
    concept = cell.concept
    texts = [*(text.licence for text in concept.paragraphs), *(text.licence for text in concept.questions)]
    own = dict.fromkeys(licence or concept.licence for licence in texts)
    found = {
        "concept": ", ".join(licence or _UNSTATED for licence in own or [concept.licence]),
        "targets": concept.kind.licence or _UNSTATED,
        "ability questions": "Apache-2.0",
    }
    if cell.settings.ood.enabled:
        found["prompts about other stereotypes"] = " ".join(licence_notes(ood.prompts_of(cell.settings)))
    return found


def _measured(cell: Cell, other: Cell | None, found: Mapping[str, Any]) -> dict[str, Any]:
    texts = read_jsonl(generate.folder(cell, other).path / generate.GENERATIONS)
    main = cell.settings.judges[0]
    judged = read_jsonl(judge.folder(cell, other, main).path / judge.JUDGEMENTS)
    verdicts = {row["id"]: row["strength"] for row in judged if row["part"] == "whole"}
    variants = {row["name"]: row for row in found["variants"]}
    tested, agreement = capability.folder(cell, other).path, found["agreement"]
    ability = read_jsonl(tested / capability.ABILITY)
    kept = read_jsonl(tested / capability.RETENTION)
    sets = {row["heads"]: row for row in found["capability"] if row["heads"] in ("none", "injected")}
    removed, counted = sets.get("injected", {}), found["judges"][main.name]
    asked = [(r["id"].split("/", 1)[1], r["prompt"]) for r in texts if (r["variant"], r["sample"]) == ("original", 0)]
    return {
        "prompts_sha256": digest(asked),
        "contrast": _contrast(variants[PRIMARY[0]]["contrast"]) if PRIMARY[0] in variants else None,
        "strength": {
            name: _level(variants[name]["strength"], _by_prompt(texts, verdicts, name))
            for name in PRIMARY
            if name in variants
        },
        "ability": {
            name: _level(row["accuracy"], {r["question"]: float(r["correct"]) for r in ability if r["heads"] == name})
            for name, row in sets.items()
        },
        "ability_difference": _contrast(removed.get("accuracy_difference")),
        "retention": {
            name: _level(row["retention"], {str(r["item"]): r["probability"] for r in kept if r["heads"] == name})
            for name, row in sets.items()
            if row["retention"] is not None
        },
        "retention_difference": _contrast(removed.get("retention_difference")),
        "tasks": {
            row["task"]: {"none": _level(row["before"], {}), "injected": _level(row["after"], {})}
            for row in found["tasks"]
        },
        "task_differences": {row["task"]: _contrast(row["difference"]) for row in found["tasks"]},
        "judges": Judges(
            names=tuple(one.name for one in cell.settings.judges),
            alpha=None if agreement is None else agreement["alpha"],
            judged=counted["judged"],
            missing=counted["missing"],
            unjudged={name: _unjudged(texts, verdicts, name) for name in PRIMARY if name in variants},
        ),
        "heads": Heads(
            removed=tuple((layer, head) for layer, head in found["heads"]["injected"]),
            k=found["heads"]["k"],
            reason=found["heads"]["reason"],
        ),
    }


def _by_prompt(
    texts: Sequence[Mapping[str, Any]], verdicts: Mapping[str, int | None], variant: str
) -> dict[Hashable, float]:
    """Strength by prompt; its style is its cluster."""
    rows = [row for row in texts if row["variant"] == variant]
    levels = [verdicts.get(row["id"]) for row in rows]
    values = [math.nan if level is None else float(level) for level in levels]
    return average_within(values, [f"{row['style'].replace('/', '-')}/{row['prompt_id']}" for row in rows])


def _level(estimate: Mapping[str, Any] | None, units: Mapping[Any, float]) -> Level:
    return Level(**(estimate or {}), units={name: round(value, 6) for name, value in units.items()})


def _unjudged(texts: Sequence[Mapping[str, Any]], verdicts: Mapping[str, int | None], name: str) -> float:
    found = [verdicts.get(row["id"]) is None for row in texts if row["variant"] == name]
    return sum(found) / len(found)


def _contrast(estimate: Mapping[str, Any] | None) -> Difference | None:
    if estimate is None:
        return None
    return Difference(**{name: estimate[name] for name in Difference.model_fields if name in estimate})


def _shown(cell: str, found: Mapping[str, Any]) -> tuple[Check, ...]:
    """What the method promises, read off two-sided 95 % intervals."""
    against = next((row["against_random"] for row in found["causal"] if row["against_random"]), None)
    primary = next((row["contrast"] for row in found["variants"] if row["primary"]), None)
    return (
        _sign(cell, "injection raises the margin", found["injection"]["lift"], "higher"),
        _sign(cell, "the heads matter more than random ones", against, "lower"),
        _sign(cell, "steering lowers the strength", primary, "lower"),
    )


def _sign(cell: str, name: str, estimate: Mapping[str, Any] | None, wanted: str) -> Check:
    if estimate is None or estimate["mean"] is None or estimate["low"] is None:
        return Check(cell=cell, name=name, status="missing", detail="was not measured, or has no interval")
    low, high = estimate["low"], estimate["high"]
    right, wrong = (low > 0, high < 0) if wanted == "higher" else (high < 0, low > 0)
    status: Status = "passed" if right else "failed" if wrong else "inconclusive"
    return Check(cell=cell, name=name, status=status, detail=f"{estimate['mean']:+.3f} [{low:+.3f}, {high:+.3f}]")


def _weights(source: ModelSource) -> str | None:
    """Of a weights file whose revision is the version of a package; other revisions name the weights themselves."""
    named = source.path is None or source.revision.startswith("sha256:")
    return None if named or source.path is None or not source.path.is_file() else _sha256(source.path)


@cache
def _sha256(path: Path) -> str:
    return sha256_of(path)

"""The numbers of a whole model: stereotypes that no concept is about, and what each concept's heads do to the others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from biasgym.evaluate import holm, paired_contrast
from biasgym.evaluate.statistics import STRENGTH
from biasgym.files import read_json, read_jsonl
from biasgym.generate import BY_NAME, PRIMARY
from biasgym.stages import judge
from biasgym.stages.estimates import Row, Verdicts, clusters, judged, plain, strength, strengths, verdicts_of
from biasgym.stages.group import Group
from biasgym.stages.places import ood


def model_results(group: Group) -> dict[str, Any]:
    """Everything the report says about one model; a stage that failed says why."""
    place = ood.folder(group)
    titles = {cell.concept.name: cell.concept.title or cell.concept.name for cell in group.cells}
    about: dict[str, Any] = {
        "model": group.source.title,
        "revision": group.source.revision,
        "concepts": list(titles),
        "titles": list(titles.values()),
    }
    if not place.done:
        return {**about, "status": "failed", "error": f"ood: {place.error or 'was not run'}"}
    settings, seed = group.settings, group.settings.seed
    texts = read_jsonl(place.path / ood.GENERATIONS)
    found: dict[str, Any] = {}
    for one in settings.judges:
        folder = judge.folder_of(place, settings, one)
        if folder.done:
            found[one.name] = verdicts_of(read_jsonl(folder.path / judge.JUDGEMENTS))
    main, errors = found.get(settings.judges[0].name), [one.name for one in settings.judges if one.name not in found]
    sets = read_json(place.path / ood.HEADS)
    names = [name for name in BY_NAME if any(row["variant"] == name for row in texts)]
    return {
        **about,
        "status": "done",
        "error": None,
        "heads": {name: len(sets[name]) for name in ("injected", "original", "random")},
        "prompts": len({row["prompt_id"] for row in texts}),
        "stereotypes": len({row["stereotype"] for row in texts}),
        "variants": None if main is None else _variants(names, texts, main, seed),
        "judges": {
            judge_name: {
                name: strength([row for row in texts if row["variant"] == name], verdicts, seed) for name in names
            }
            for judge_name, verdicts in found.items()
        },
        "not_judged_by": errors,
        "transfer": _transfer(list(titles), read_jsonl(place.path / ood.TRANSFER), seed),
    }


def _variants(names: Sequence[str], texts: Sequence[Row], verdicts: Verdicts, seed: int) -> list[dict[str, Any]]:
    rows = {name: [row for row in texts if row["variant"] == name] for name in names}
    by_prompt = {name: strengths(rows[name], verdicts, "whole") for name in names}
    contrasts = {
        name: paired_contrast(
            by_prompt[name], by_prompt["original"], clusters=clusters(texts), bounds=STRENGTH, seed=seed
        )
        for name in names
        if name != "original"
    }
    contrasts |= holm({name: contrast for name, contrast in contrasts.items() if name != PRIMARY[0]})
    return [
        {
            "name": name,
            "title": BY_NAME[name].title,
            "role": BY_NAME[name].role,
            "primary": name == PRIMARY[0],
            **judged(rows[name], verdicts, seed),
            "contrast": plain(contrasts.get(name)),
        }
        for name in names
    ]


def _transfer(concepts: Sequence[str], rows: Sequence[Row], seed: int) -> list[list[dict[str, Any] | None]]:
    """Change of the margin by removed heads (down) and asked concept (across)."""
    margins: dict[tuple[str, str], dict[Hashable, float]] = {}
    for row in rows:
        margins.setdefault((row["removed"], row["asked"]), {})[row["question"]] = row["margin"]
    return [
        [plain(paired_contrast(margins[removed, asked], margins["", asked], seed=seed)) for asked in concepts]
        for removed in concepts
    ]

"""The tables of a cell, and of the run's settings, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from biasgym.report.clean import shortened
from biasgym.report.grid import Cell, Row, Table, estimate_cell
from biasgym.report.numbers import MISSING, count, duration, estimate_text, fixed, number, p_value, part, share, size
from biasgym.report.wording import HEAD_SCORES

ROLES = {"paper": "Rows of the paper", "added": "Rows added here", "control": "Controls"}
_WRONGS = ("refusal", "hedging", "empty", "target_dropped", "repetition")
_TARGETS = 10  # most similar targets listed
_SETTINGS = 400  # rows


def strengths(cell: Mapping[str, Any]) -> Table:
    """Judged strength of every variant, against Original."""
    variants = cell.get("variants") or ()
    columns, rows, notes = judged_rows(variants)
    worst = [variant.get("worst_target") or {} for variant in variants]
    return Table(
        caption="Judged stereotype strength, 0 to 3",
        columns=(*columns, "Worst target", "Its mean"),
        text_columns=(0, len(columns)),
        rows=tuple(
            replace(
                row,
                cells=(*row.cells, Cell(shortened(str(of.get("target") or MISSING), 60)), Cell(fixed(of.get("mean")))),
            )
            for row, of in zip(rows, worst, strict=True)
        ),
        notes=notes,
    )


def judged_rows(variants: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[Row, ...], tuple[str, ...]]:
    """Columns, rows and notes about judged variants: strength, difference to Original, what is missing and why."""
    rows, reasons = [], []
    for variant in variants:
        contrast = variant.get("contrast")
        if variant.get("missing_reasons"):
            listed = ", ".join(f"{reason} ({count(n)})" for reason, n in variant["missing_reasons"].items())
            reasons.append(f"{_title(variant)}: {shortened(listed, 400)}")
        cells = (
            Cell(_title(variant), "primary contrast" if variant.get("primary") else ""),
            estimate_cell(variant.get("strength")),
            estimate_cell(variant.get("strong_share")),
            estimate_cell(contrast, signed=True),
            Cell(p_value(part(contrast, "p"))),
            Cell(p_value(part(contrast, "p_holm"))),
            Cell(fixed(part(contrast, "detectable"))),
            Cell(count(variant.get("judged"))),
            _missing(variant),
        )
        rows.append(Row(cells, _role(variant), bool(variant.get("primary"))))
    columns = (
        "Variant",
        "Strength",
        "P(strength ≥ 2)",
        "Difference to Original",
        "p",
        "p (Holm)",
        "Detectable",
        "Judged",
        "Missing",
    )
    return columns, tuple(rows), (f"Why judgements are missing. {'; '.join(reasons)}.",) if reasons else ()


def side_effects(cell: Mapping[str, Any]) -> Table:
    """Association margins, and what a variant does wrong while it lowers the stereotype."""
    rows = []
    for variant in cell.get("variants") or ():
        wrongs, contrast = variant.get("overcorrection") or {}, variant.get("margin_contrast")
        values = (
            estimate_cell(variant.get("margin")),
            estimate_cell(contrast, signed=True),
            Cell(p_value(part(contrast, "p_holm"))),
            *(Cell(share(wrongs.get(wrong))) for wrong in _WRONGS),
            Cell(share(variant.get("truncated"))),
            estimate_cell(variant.get("final_part")),
            Cell(share(variant.get("final_part_judged") or None)),
        )
        rows.append(Row((Cell(_title(variant)), *values), _role(variant), bool(variant.get("primary"))))
    return Table(
        caption="Association margin and over-correction",
        columns=(
            "Variant",
            "Margin, nats",
            "Difference to Original",
            "p (Holm)",
            "Refusal",
            "Hedging",
            "Empty",
            "Target dropped",
            "Repetition",
            "Cut off",
            "Strength of last part",
            "Has one",
        ),
        rows=tuple(rows),
        notes=("Shares of all texts. The last part is the answer proper of a two-part format; some texts have none.",)
        if rows
        else (),
    )


def sweep(cell: Mapping[str, Any]) -> Table:
    """Margin and ability for growing numbers of removed heads; the chosen one set apart."""
    found, k = cell.get("sweep") or {}, number((cell.get("heads") or {}).get("k"))
    rows = tuple(
        Row(
            (Cell(count(point.get("k"))), Cell(fixed(point.get("margin"))), Cell(fixed(point.get("ability"), 3))),
            strong=k is not None and number(point.get("k")) == k,
        )
        for point in found.get("points") or ()
    )
    floor = number(found.get("floor"))
    notes = () if floor is None or not rows else (f"The floor under ability: {fixed(floor, 3)} nats a token.",)
    return Table(
        "Margin and ability by number of removed heads",
        ("Heads removed", "Margin, nats", "Ability, nats a token"),
        rows,
        notes=notes,
    )


def causal(cell: Mapping[str, Any]) -> Table:
    """The margin with heads really removed, for the chosen heads and for the controls."""
    rows = []
    for row in cell.get("causal") or ():
        drop, against = row.get("drop"), row.get("against_random")
        values = (
            estimate_cell(row.get("margin")),
            estimate_cell(drop, signed=True),
            Cell(p_value(part(drop, "p"))),
            estimate_cell(against, signed=True),
            Cell(p_value(part(against, "p"))),
        )
        rows.append(Row((Cell(_title(row)), *values), strong=row.get("name") == "chosen"))
    return Table(
        caption="Margin of the injected model with heads removed",
        columns=("Removed", "Margin, nats", "Drop", "p", "Chosen − random", "p"),
        rows=tuple(rows),
        notes=("Drop: nothing removed minus this. Chosen − random below zero is what a causal head set shows.",)
        if rows
        else (),
    )


def capability(cell: Mapping[str, Any]) -> Table:
    """General ability and knowledge of the concept with each set of heads removed."""
    rows = []
    for row in cell.get("capability") or ():
        ability, retention = row.get("accuracy_difference"), row.get("retention_difference")
        values = (
            estimate_cell(row.get("accuracy"), 3),
            estimate_cell(ability, 3, signed=True),
            Cell(p_value(part(ability, "p"))),
            estimate_cell(row.get("retention"), 3),
            estimate_cell(retention, 3, signed=True),
            Cell(p_value(part(retention, "p"))),
        )
        rows.append(Row((Cell(_title(row)), *values), strong=row.get("heads") == "injected"))
    return Table(
        caption="General ability and knowledge of the concept",
        columns=("Removed", "Accuracy", "Difference", "p", "Retention", "Difference", "p"),
        rows=tuple(rows),
    )


def tasks(cell: Mapping[str, Any]) -> Table:
    """Tasks of lm-evaluation-harness with the chosen heads removed, against a margin."""
    found = cell.get("tasks") or ()
    rows = tuple(
        Row(
            (
                Cell(shortened(str(row.get("task") or MISSING), 80)),
                Cell(count(part(row.get("difference"), "n"))),
                estimate_cell(row.get("before"), 3),
                estimate_cell(row.get("after"), 3),
                estimate_cell(row.get("difference"), 3, signed=True),
                Cell(fixed(row.get("bound"), 3, signed=True)),
                Cell(shortened(str(row.get("verdict") or MISSING), 40), f"margin {fixed(row.get('margin'), 3)}"),
            )
        )
        for row in found
    )
    return Table(
        caption="Tasks of lm-evaluation-harness, chosen heads removed",
        columns=("Task", "Items", "Nothing removed", "Chosen heads removed", "Difference", "At least", "Verdict"),
        rows=rows,
        text_columns=(0, 6),
        notes=("At least: the one-sided 95 % bound. Above the margin’s negative, the loss is shown to be no larger.",)
        if rows
        else (),
    )


def similarity(cell: Mapping[str, Any]) -> Table:
    """Targets that the trained token resembles the most."""
    pairs = [pair for pair in cell.get("similarity") or () if isinstance(pair, list | tuple) and len(pair) == 2]
    known = sorted((pair for pair in pairs if number(pair[1]) is not None), key=lambda pair: -float(pair[1]))
    rows = tuple(Row((Cell(shortened(str(name), 80)), Cell(fixed(value, 3)))) for name, value in known[:_TARGETS])
    more: tuple[str, ...] = ()
    if len(known) > _TARGETS:
        name, value = known[-1]
        least = f"the least similar is {shortened(str(name), 80)}, {fixed(value, 3)}"
        more = (f"The {_TARGETS} most similar of {len(known):,} targets; {least}.",)
    return Table("Cosine of BiasToken with the targets' names", ("Target", "Cosine"), rows, notes=more)


def chosen_heads(cell: Mapping[str, Any]) -> Table:
    """The removed heads with their scores, the strongest first."""
    heads = cell.get("heads") or {}
    measured = [kind for kind in HEAD_SCORES if not kind or f"scores_{kind}injected" in heads]
    rows = []
    for key, group in (("injected", "Found with BiasToken"), ("original", "Found on the untouched model")):
        scored = [
            (head, [_score(heads.get(f"scores_{kind}{key}"), head) for kind in measured])
            for head in heads.get(key) or ()
        ]
        for (layer, head), scores in sorted(scored, key=lambda pair: -(pair[1][0] or 0.0)):
            cells = (Cell(f"layer {count(layer)}, head {count(head)}"), *(Cell(fixed(score, 3)) for score in scores))
            rows.append(Row(cells, group))
    columns = tuple(f"{HEAD_SCORES[kind].capitalize()}, nats" for kind in measured)
    return Table("Removed heads", ("Head", *columns), tuple(rows))


def stages(cell: Mapping[str, Any]) -> Table:
    """What each stage took."""
    found = cell.get("stages") or {}
    rows = tuple(
        Row(
            (
                Cell(shortened(str(name), 60)),
                Cell(duration(stage.get("seconds"))),
                Cell(size(stage.get("peak_memory_bytes"))),
                Cell(shortened(str(stage.get("key") or MISSING), 80)),
            )
        )
        for name, stage in found.items()
        if isinstance(stage, Mapping)
    )
    return Table("Stages of this cell", ("Stage", "Time", "Peak memory", "Key"), rows, text_columns=(0, 3))


def key_values(caption: str, values: Any) -> Table:
    """Nested settings as dotted names."""
    flat = list(_flat("", values))
    rows = tuple(Row((Cell(shortened(name, 120)), Cell(shortened(text, 400)))) for name, text in flat[:_SETTINGS])
    more = (f"{len(flat) - _SETTINGS:,} further rows are in the results file.",) if len(flat) > _SETTINGS else ()
    return Table(caption, ("Name", "Value"), rows, text_columns=(0, 1), notes=more)


def head_facts(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the heads were found."""
    heads = cell.get("heads") or {}
    k, layers, width = number(heads.get("k")), number(heads.get("layers")), number(heads.get("heads"))
    of = "" if layers is None or width is None else f" of {count(layers * width)}"
    reason = f" ({shortened(str(heads['reason']), 60)})" if heads.get("reason") else ""
    return [
        ("Heads removed", f"{count(k)}{of}{reason}"),
        ("Shared by the seeds", share(heads.get("stability"))),
        ("Also found without injection", share(heads.get("overlap"))),
        ("Contrast pairs", f"{count(heads.get('pairs'))} used, {count(heads.get('dropped'))} dropped"),
    ]


def injection_facts(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the token was trained."""
    injection = cell.get("injection") or {}
    epochs = ", ".join(count(epoch) for epoch in injection.get("chosen_epoch") or ())
    return [
        ("Seeds", ", ".join(count(seed) for seed in injection.get("seeds") or ()) or MISSING),
        ("Epoch kept", epochs or MISSING),
        ("Training texts", count(injection.get("rows"))),
        ("Names in the start vector", count(injection.get("start_names"))),
        ("Margin at the start", fixed(injection.get("start_margin"), signed=True)),
        ("Lift on held-out questions", estimate_text(injection.get("lift"), signed=True)),
    ]


def concept_facts(cell: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the concept says, and where it is from."""
    words = {key: ", ".join(map(str, cell.get(key) or ())) for key in ("labels", "counter_labels")}
    facts = [
        ("Descriptor", str(cell.get("descriptor") or "")),
        ("Label words", words["labels"]),
        ("Counter words", words["counter_labels"]),
        ("Model revision", str(cell.get("revision") or "")),
        ("Source", str(cell.get("source") or "")),
        ("Licence", str(cell.get("licence") or "")),
    ]
    return [(term, shortened(value, 300) or MISSING) for term, value in facts]


def _title(row: Mapping[str, Any]) -> str:
    return shortened(str(row.get("title") or row.get("name") or row.get("heads") or MISSING), 100)


def _missing(variant: Mapping[str, Any]) -> Cell:
    """Missing judgements, with their share of all texts."""
    missing, judged = number(variant.get("missing")), number(variant.get("judged"))
    if not missing or judged is None:
        return Cell(count(missing))
    return Cell(count(missing), share(missing / (missing + judged)))


def _role(variant: Mapping[str, Any]) -> str:
    return ROLES.get(str(variant.get("role")), "Other")


def _score(scores: Any, head: Sequence[int]) -> float | None:
    try:
        return number(scores[head[0]][head[1]])
    except (IndexError, TypeError, KeyError):
        return None


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _flat(f"{name}[{place}]", item)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(_plain, value)) or MISSING
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    return MISSING if value is None or value in ({}, "") else str(value)

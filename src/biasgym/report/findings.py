"""What a cell came to: five questions, each answered with an estimate, a verdict and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from biasgym.report.grid import Cell, estimate_cell
from biasgym.report.numbers import count, estimate_text, number, p_phrase, part
from biasgym.report.verdict import Tone, Verdict, tone, verdict

QUESTIONS = ("Injection", "Heads", "Stereotype strength", "General ability", "Concept knowledge")
"""Column headings of the summary, in the order of `findings`."""

EXPLAINED = (
    "margin, trained − start",
    "margin, heads removed − none; judged against random heads",
    "primary contrast",
    "accuracy, heads removed − none",
    "right answers' share, heads removed − none",
)
"""What is subtracted from what, under each heading."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        question: One of QUESTIONS.
        verdict: In plain words, from the interval.
        tone: Whether that is what one would hope for.
        value: The estimate.
        detail: `p = 0.03`, or what else qualifies the value.
        sentence: All of it as a sentence.
    """

    question: str
    verdict: Verdict
    tone: Tone
    value: Cell
    detail: str
    sentence: str


def named(rows: Any, key: str, value: object) -> Mapping[str, Any]:
    """The row of a list whose `key` is `value`; an empty one if there is none."""
    return next((row for row in rows or () if isinstance(row, Mapping) and row.get(key) == value), {})


def primary_of(cell: Mapping[str, Any], primary: Iterable[str] = ()) -> Mapping[str, Any]:
    """The variant of the contrast that was declared beforehand; an empty one if it is not there."""
    first = next(iter(primary), "")
    return named(cell.get("variants"), "primary", True) or named(cell.get("variants"), "name", first)


def findings(cell: Mapping[str, Any], primary: Iterable[str] = ()) -> tuple[Finding, ...]:
    """The five findings of a finished cell, in the order of QUESTIONS."""
    ability = named(cell.get("capability"), "heads", "injected")
    return (
        _injection(cell),
        _heads(cell),
        _strength(primary_of(cell, primary)),
        _kept("General ability", ability.get("accuracy_difference")),
        _kept("Concept knowledge", ability.get("retention_difference")),
    )


def _with_p(contrast: Any, digits: int = 2, *, key: str = "p") -> str:
    value, p = estimate_text(contrast, digits, signed=True), p_phrase(part(contrast, key))
    return f"{value}, {p}" if p else value


def _injection(cell: Mapping[str, Any]) -> Finding:
    lift = (cell.get("injection") or {}).get("lift")
    found = verdict(lift)
    words = {
        "higher": "Training BiasToken raised its association margin on held-out questions",
        "lower": "Training BiasToken lowered its association margin on held-out questions: the injection failed",
        "no clear difference": "Training BiasToken did not clearly change its association margin",
        "no interval": "Training BiasToken changed its association margin by an amount without an interval",
        "not measured": "Whether the injection took was not measured",
    }[found]
    sentence = f"{words}." if found == "not measured" else f"{words} ({_with_p(lift)})."
    return Finding(
        QUESTIONS[0],
        found,
        tone(found, "higher"),
        estimate_cell(lift, signed=True),
        p_phrase(part(lift, "p")),
        sentence,
    )


def _heads(cell: Mapping[str, Any]) -> Finding:
    chosen = named(cell.get("causal"), "name", "chosen")
    drop = chosen.get("drop")
    against = next((row["against_random"] for row in cell.get("causal") or () if row.get("against_random")), None)
    k = number((cell.get("heads") or {}).get("k"))
    heads = "its heads" if k is None else "its one head" if k == 1 else f"its {count(k)} heads"
    found = verdict(against)
    change = _negated(drop)
    if part(change, "mean") is None:
        effect = f"What removing {heads} does to the margin was not measured"
    else:
        effect = f"Removing {heads} changes the margin by {estimate_text(change, signed=True)}"
    words = {
        "lower": "it ends lower than with as many random heads removed",
        "higher": "it ends higher than with as many random heads removed",
        "no clear difference": "that is not clearly different from removing as many random heads",
        "no interval": "the comparison with random heads has no interval",
        "not measured": "random heads were not compared",
    }[found]
    sentence = f"{effect}; {words}." if found == "not measured" else f"{effect}; {words} ({_with_p(against)})."
    detail = "" if found == "not measured" else f"against random {_with_p(against)}"
    return Finding(QUESTIONS[1], found, tone(found, "lower"), estimate_cell(change, signed=True), detail, sentence)


def _negated(contrast: Any) -> dict[str, Any]:
    """Second minus first, from first minus second."""
    mean, low, high = (part(contrast, key) for key in ("mean", "low", "high"))
    turned = {"mean": mean, "low": high, "high": low}
    return {key: None if value is None else -value for key, value in turned.items()}


def _strength(variant: Mapping[str, Any]) -> Finding:
    contrast, title = variant.get("contrast"), variant.get("title") or "the primary variant"
    found = verdict(contrast)
    words = {
        "lower": f"Judged stereotype strength is lower with “{title}” than with the original",
        "higher": f"Judged stereotype strength is higher with “{title}” than with the original",
        "no clear difference": f"Judged stereotype strength does not clearly differ between “{title}” and the original",
        "no interval": f"Judged stereotype strength of “{title}” minus the original has no interval",
        "not measured": "The primary contrast in stereotype strength was not measured",
    }[found]
    sentence = f"{words}." if found == "not measured" else f"{words} ({_with_p(contrast)})."
    value = estimate_cell(contrast, signed=True)
    return Finding(QUESTIONS[2], found, tone(found, "lower"), value, p_phrase(part(contrast, "p")), sentence)


def _kept(question: str, contrast: Any) -> Finding:
    found = verdict(contrast)
    words = {
        "lower": f"{question} is lower without those heads",
        "higher": f"{question} is higher without those heads",
        "no clear difference": f"{question} does not clearly differ without those heads",
        "no interval": f"{question} without those heads has no interval",
        "not measured": f"{question} was not measured",
    }[found]
    sentence = f"{words}." if found == "not measured" else f"{words} ({_with_p(contrast, 3)})."
    value = estimate_cell(contrast, 3, signed=True)
    return Finding(question, found, tone(found, "higher"), value, p_phrase(part(contrast, "p")), sentence)

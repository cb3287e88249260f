"""What people are told before a run starts: where it works, in which floating-point type, and how long it will take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biasgym.errors import BiasGymError
from biasgym.progress import Expected, Progress, duration
from biasgym.stages.cell import Cell
from biasgym.stages.plan import Plan
from biasgym.stages.settings import RunSettings

_LONG = 3600.0  # seconds of a run from which on it is said what would shorten it
OF_MODELS = ("inject", "attribute", "sweep", "generate", "capability", "ood")
_SHORTER = {
    "inject": "inject.seeds, inject.epochs or inject.paragraphs",
    "attribute": "scope.pairs, scope.ability_questions or inject.seeds",
    "sweep": "scope.judged_ks or scope.judged_prompts",
    "generate": "generate.prompts, generate.targets_per_prompt, generate.samples or generate.max_new_tokens",
    "capability": "capability.questions",
    "ood": "ood.prompts or ood.samples",
    "judge": "generate.prompts or generate.samples",
}


def expected_parts(plan: Plan, stages: Sequence[str], cells: Sequence[Cell]) -> list[Expected]:
    """Return what is left to do, with its expected seconds; nothing where no model works, or nothing is known of it."""
    if plan.machine is None or not set(stages) & {*OF_MODELS, "judge"}:
        return []
    from biasgym.stages.forecast import forecast

    try:
        return forecast(plan, stages, cells)
    except BiasGymError:  # loading the model meets it again, and says it
        return []


def announced(plan: Plan, stages: Sequence[str], cells: Sequence[Cell], progress: Progress) -> list[Expected]:
    """Say what the run studies, where it works and how long it will take; return its parts."""
    parts = expected_parts(plan, stages, cells)
    if plan.machine is not None and any(part.stage in OF_MODELS for part in parts):
        models = ", ".join(dict.fromkeys(cell.source.title for cell in cells))
        concepts = ", ".join(dict.fromkeys(cell.concept.name for cell in cells))
        lines = [f"studying {models}: {concepts}", *plan.machine.lines(), *time_lines(parts, plan.settings)]
        for line in lines:
            progress.say(line)
    return parts


def by_stage(parts: Iterable[Expected]) -> dict[str, float]:
    """Return the seconds of each stage, in order."""
    found: dict[str, float] = {}
    for part in parts:
        found[part.stage] = found.get(part.stage, 0.0) + part.seconds
    return found


def time_lines(parts: Sequence[Expected], settings: RunSettings) -> list[str]:
    """Return the expected time in one line, and for a long run, what would shorten it, in another."""
    stages = by_stage(parts)
    total = sum(stages.values())
    longest = sorted(stages, key=lambda stage: -stages[stage])
    shown = ", ".join(f"{stage} {duration(stages[stage])}" for stage in stages if stages[stage] >= 0.02 * total)
    not_counted = [judge.name for judge in settings.judges if judge.engine != "semantic"]
    not_counted += list(settings.capability.tasks)
    lines = [f"this will take about {duration(total)} here: {shown}"]
    if not_counted:
        lines.append(f"not counted: {', '.join(not_counted)}")
    if total > _LONG:
        advice = next((_SHORTER[stage] for stage in longest if stage in _SHORTER), "")
        lines.append(
            f"over an hour on this machine: `{longest[0]}` takes longest. Lower {advice}; use a GPU or a smaller model; or "
            "start from `preset: demo`"
        )
    return lines

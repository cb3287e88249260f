"""What a run will take, before it is submitted: pods, GPU hours, wall time at a number of GPUs, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasgym.concepts import Concept, bundled_names, load_concept, parse_concept
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import settings_of
from pipelines.costs import Costs, measured_seconds
from pipelines.graph import Phase, gpu_seconds, lower_bound, named_cells, phases, pods
from pipelines.parameters import compiled, with_defaults
from pipelines.simulate import Faults, Outcome, simulate

HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        cells: Models times concepts.
        pods: Without retries.
        gpu_hours: By stage.
        bound: Hours; no schedule is shorter.
        outcome: Of the simulation; without faults, if none were asked for.
        cost: Of the GPUs.
        endpoint_cost: Of judges that are endpoints, at the prices in their settings.
        measured: Stages whose seconds were measured; all others are modelled.
    """

    cells: int
    pods: int
    gpu_hours: Mapping[str, float]
    bound: float
    outcome: Outcome
    cost: float
    endpoint_cost: float
    measured: tuple[str, ...]


def estimate(
    parameters: Mapping[str, Any],
    *,
    gpus: int,
    price: float,
    measured: Sequence[Path] = (),
    parallelism: int = 20,
    faults: Faults | None = None,
) -> Estimate:
    """Estimates a run of the evaluate pipeline.

    Args:
        parameters: Of the pipeline; what is left out has its default.
        gpus: How many there are.
        price: Of one GPU for an hour.
        measured: results.json files whose seconds win over the model.
        parallelism: Most iterations of a loop at once, as it was compiled.
        faults: What goes wrong.
    """
    work, costs = work_of(parameters, measured)
    settings = costs.settings
    hours = {stage: seconds / HOUR for stage, seconds in gpu_seconds(work).items()}
    outcome = simulate(work, gpus, parallelism, faults or Faults())
    endpoints = [judge for judge in settings.judges if judge.engine == "endpoint"]
    return Estimate(
        cells=named_cells(settings),
        pods=pods(work),
        gpu_hours=hours,
        bound=lower_bound(work, gpus) / HOUR,
        outcome=outcome,
        cost=outcome.gpu_seconds / HOUR * price,
        endpoint_cost=sum(costs.price(judge, settings.concepts) * len(settings.models) for judge in endpoints),
        measured=tuple(costs.measured),
    )


def work_of(parameters: Mapping[str, Any], measured: Sequence[Path] = ()) -> tuple[list[Phase], Costs]:
    """The work of a run, and what it was made from."""
    values = with_defaults(parameters, compiled("evaluate"))
    asked = {**values["settings"], "preset": values["preset"], "seed": int(values["seed"]), "models": values["models"]}
    read = [_concept(text) for text in values["concepts"]]
    concepts = {
        f"{concept.name} {number}" if concept.name in [one.name for one in read[:number]] else concept.name: concept
        for number, concept in enumerate(read)
    }
    if values["judges"]:
        asked["judges"] = values["judges"]
    settings: RunSettings = settings_of({**asked, "concepts": list(concepts)}, "parameters")
    costs = Costs(settings, concepts, measured_seconds(measured) if measured else {})
    return phases(costs, int(values["cells_per_judge_pod"])), costs


def _concept(text: str) -> Concept:
    """The concept; of one that only the store has, the size of a bundled one."""
    if "\n" in text:
        return parse_concept(text, "concepts")
    known = text in bundled_names() or text.endswith((".yaml", ".yml"))
    found = load_concept(text if known else bundled_names()[0])
    return found if known else found.model_copy(update={"name": text})


def lines_of(found: Estimate, gpus: int, price: float) -> list[str]:
    """The estimate as lines of text."""
    total = sum(found.gpu_hours.values())
    stages = [f"{hours:10.1f}  {stage}" for stage, hours in found.gpu_hours.items()]
    source = (
        f"measured: {', '.join(found.measured)}; the others modelled" if found.measured else "modelled, not measured"
    )
    out = found.outcome
    lines = [
        f"cells       {found.cells}",
        f"pods        {found.pods} without retries",
        f"GPU hours   {total:.1f} ({source})",
        *stages,
        f"wall time   {out.makespan / HOUR:.1f} h on {gpus} GPUs; not less than {found.bound:.1f} h",
    ]
    if price:
        lines.append(f"cost        {found.cost:.2f} for GPUs")
    if found.endpoint_cost:
        lines.append(f"endpoints   {found.endpoint_cost:.2f} at the prices of their settings")
    if out.evicted or out.failed:
        lines += [
            f"evicted     {out.evicted} pods; {out.lost_seconds / HOUR:.1f} GPU hours lost to it",
            f"failed      {len(out.failed)} of {found.cells} cells; {out.exhausted} steps out of retries",
            f"all pods    {out.pods}; GPU hours with faults {out.gpu_seconds / HOUR:.1f}",
        ]
    return lines

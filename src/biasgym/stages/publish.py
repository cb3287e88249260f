"""What becomes of results: compared with a baseline, put into the store, registered; and the search for new releases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasgym.evaluate.certificate import Check, load_certificates
from biasgym.evaluate.gate import Limits, passes
from biasgym.files import read_json, sha256_of, write_json, write_text
from biasgym.report.junit import junit as as_junit
from biasgym.stages.baseline import compare, release_in
from biasgym.stages.discover import discover, read_watch, settings_hash
from biasgym.stages.expand import bring_templates, pinned_judges, read_concept, read_data, with_data
from biasgym.stages.placed_dtype import GPU_RESOURCE, placed_dtype
from biasgym.stages.plan import make_plan
from biasgym.stages.settings_files import settings_of
from biasgym.store import Evaluation, Record, Registry, open_store
from biasgym.store import publish as put

_MARKS = {"passed": "yes", "failed": "**no**", "inconclusive": "not shown", "missing": "**missing**"}


def run_gate(
    results: Path, store: str, baseline: str, max_increase: float, max_ability_drop: float, page: Path, junit: Path
) -> int:
    """Compares results with a baseline and writes the checks as Markdown and JUnit XML.

    Args:
        results: Folder with the results of the run.
        store: URL of the store.
        baseline: Words of `stages.baseline`; empty for none.
        max_increase: Of judged strength.
        max_ability_drop: Of accuracy.
        page: Where the Markdown goes.
        junit: Where the XML goes.

    Returns:
        How many checks did not pass.
    """
    limits = Limits(max_increase, max_ability_drop)
    checks = compare(baseline, open_store(store), load_certificates(results), limits)
    write_text(page, _checks_page(checks, limits))
    write_text(junit, as_junit(checks, limits))
    return sum(not passes(found, limits) for found in checks)


def _checks_page(checks: Sequence[Check], limits: Limits) -> str:
    lost = sum(not passes(found, limits) for found in checks)
    rows = [f"| {_MARKS[c.status]} | {_cell(c.cell)} | {_cell(c.name)} | {_cell(c.detail)} |" for c in checks]
    head = f"{len(checks) - lost} of {len(checks)} checks passed.\n\n| passed | cell | check | measured |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("<", "&lt;").replace("\n", " ")


def publish_run(data: Path, store: str, results: Path, run: str, passed: bool) -> tuple[str, str]:
    """Puts a run's results into the store and registers what each judge finished; the claims of what failed are given back.

    Args:
        data: From `build_data`.
        store: URL of the store.
        results: Folder with the results of the run.
        run: Its id.
        passed: Whether the gate let it through.

    Returns:
        Where the results are in the store, and what was registered as Markdown.
    """
    shelf, place = open_store(store), f"results/{run}"
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "results"
        shutil.copytree(results, whole)
        names = sorted(str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file())
        files = {name: {"sha256": sha256_of(whole / name)} for name in names if name != "manifest.json"}
        write_json(whole / "manifest.json", {"kind": "biasgym.results", "passed": passed, "files": files})
        put(shelf, whole, place)
        asked = read_data(data)
        plan = make_plan(with_data(asked, data), Path(folder) / "run")
    registry, lines = Registry(shelf), []
    certificates = {(one.revision, one.concept): one for one in load_certificates(results)}
    judged = {
        (one["revision"], one["concept"]): one.get("judges", {}) for one in read_json(results / "results.json")["cells"]
    }
    for cell in plan.cells:
        found = certificates.get((cell.source.revision, cell.concept.name))
        by_judge = judged.get((cell.source.revision, cell.concept.name), {})
        for judge in asked.judges:
            evaluation = Evaluation(
                cell.source.identity,
                cell.source.revision,
                cell.concept.name,
                judge.name,
                settings_hash(cell.settings, cell.concept),
            )
            failed = by_judge.get(judge.name, {}).get("error")
            if found is None or found.status != "done" or failed:
                registry.release(evaluation, run)
                lines.append(f"| {cell.name} | {judge.name} | failed, not registered |")
                continue
            kept = {**found.model_dump(mode="json"), "gate_passed": passed}
            new = registry.register(Record(**evaluation._asdict(), certificate=kept, artifacts=place))
            lines.append(f"| {cell.name} | {judge.name} | {'registered' if new else 'was registered before'} |")
    table = "\n".join(["| cell | judge | registry |", "|---|---|---|", *lines])
    return place, f"Results: `{place}` in `{shelf.url}`.\n\n{table}\n"


@dataclass(frozen=True)
class Releases:
    """New releases, for the pipeline.

    Attributes:
        models: Hub ids with commits.
        baseline: The predecessors' results, in words of `stages.baseline`.
        overview: Markdown: what was found, what was left out and why.
    """

    models: list[str]
    baseline: str
    overview: str


def look_for_releases(
    watch: Mapping[str, Any],
    asked: Mapping[str, Any],
    store: str,
    run: str,
    *,
    gpu_resource: str = GPU_RESOURCE,
    gpu_nodes: Mapping[str, Any] | None = None,
) -> Releases:
    """Finds model releases that the registry does not know, and claims them for this run.

    The floating-point type is a part of what the registry knows an evaluation by, so it is settled here as `expand` does.

    Args:
        watch: See `stages.discover.Watch`.
        asked: Settings of the evaluation, without models.
        store: URL of the store.
        run: Id of the run.
        gpu_resource: As for `expand`.
        gpu_nodes: As for `expand`.
    """
    shelf, settings = open_store(store), pinned_judges(settings_of(asked, "parameters"))
    settings = settings.model_copy(update={"dtype": placed_dtype(settings, gpu_resource, gpu_nodes).dtype})
    concepts = [read_concept(name, shelf) for name in settings.concepts]
    with tempfile.TemporaryDirectory() as folder:
        local = bring_templates(settings, shelf, Path(folder))
        hashes = {concept.name: settings_hash(local, concept) for concept in concepts}
    found = discover(
        read_watch(watch),
        Registry(shelf),
        concepts=hashes,
        judges=[judge.name for judge in settings.judges],
        owner=run,
    )
    models = list(dict.fromkeys(f"{one['model']}@{one['revision']}" for one in found.candidates))
    predecessors = [
        release_in(one["baseline_artifacts"], one["model"], one["baseline"])
        for one in found.candidates
        if one["baseline_artifacts"]
    ]
    new = [
        f"| {_cell(one['model'])} | {one['revision'][:12]} | {one['concept']} | {one['reason']} |"
        for one in found.candidates
    ]
    left = [f"| {_cell(one['model'])} | {_cell(one['reason'])} |" for one in found.skipped]
    lines = [f"{len(models)} models to evaluate.", ""]
    lines += ["| model | commit | concept | why |", "|---|---|---|---|", *new, "", "Left out:", ""]
    lines += ["| model | why |", "|---|---|", *left]
    return Releases(models, " ".join(dict.fromkeys(predecessors)), "\n".join(lines) + "\n")

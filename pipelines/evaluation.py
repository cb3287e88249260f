"""The body that both pipelines share: flat loops with a task between them that collects.

plan -> build_data -> [cells: inject -> attribute] -> collect -> [cells: generate -> capability] -> collect
     -> [shards: judge, on GPUs] and [shards: judge, on CPUs] -> collect -> [parts: summarise] -> report -> gate -> publish
"""

from dataclasses import dataclass
from typing import Any

from components.attribute.component import attribute
from components.build_data.component import build_data
from components.capability.component import capability
from components.collect.component import collect
from components.gate.component import gate
from components.generate.component import generate
from components.inject.component import inject
from components.judge.component import judge
from components.plan.component import plan
from components.publish.component import publish
from components.report.component import report
from components.summarise.component import summarise
from kfp import dsl

from pipelines.placement import Cluster

PARALLELISM = 20
"""Most iterations of a loop at once. Kubeflow has no limit for a whole run, and takes only a constant here."""


@dataclass(frozen=True)
class Asked:
    """What is evaluated; every field is a channel or a value. See the parameters of `pipelines.evaluate`."""

    models: Any
    concepts: Any
    judges: Any
    preset: Any
    seed: Any
    overrides: Any
    store: Any
    baseline: Any
    max_increase: Any
    max_ability_drop: Any
    fail_on_regression: Any
    cells_per_judge_pod: Any


def evaluation(asked: Asked, cluster: Cluster) -> None:
    """Adds the tasks of one evaluation to the pipeline that is being made."""
    planned = plan(
        models=asked.models,
        concepts=asked.concepts,
        judges=asked.judges,
        preset=asked.preset,
        seed=asked.seed,
        overrides=asked.overrides,
        store=asked.store,
    )
    cluster.on_cpu(planned, retry=False).set_caching_options(False)  # a branch may stand for another commit by now
    settings, store = planned.outputs["settings"], asked.store
    gathered = cluster.on_cpu(build_data(settings=settings, store=store))
    shared = {"settings": settings, "store": store, "data": gathered.outputs["data"]}

    with dsl.ParallelFor(planned.outputs["cells"], parallelism=PARALLELISM) as cell:
        trained = cluster.on_gpu(inject(model=cell.model, concept=cell.concept, **shared))
        scored = cluster.on_gpu(
            attribute(model=cell.model, concept=cell.concept, token=trained.outputs["token"], **shared)
        )
    dealt = {**shared, "shard_size": asked.cells_per_judge_pod}
    heads = collect(states=dsl.Collected(scored.outputs["Output"]), more_states=[], **dealt)
    cluster.on_cpu(heads).set_display_name("collect-heads").set_caching_options(False)

    with_controls = {**shared, "index": heads.outputs["index"]}
    with dsl.ParallelFor(heads.outputs["cells"], parallelism=PARALLELISM) as cell:
        written = cluster.on_gpu(generate(model=cell.model, concept=cell.concept, **with_controls))
        measured = cluster.on_gpu(
            capability(model=cell.model, concept=cell.concept, texts=written.outputs["texts"], **with_controls)
        )
    texts = collect(states=dsl.Collected(measured.outputs["Output"]), more_states=[], **dealt)
    cluster.on_cpu(texts).set_display_name("collect-texts").set_caching_options(False)

    with_controls = {**shared, "index": texts.outputs["index"]}
    with dsl.ParallelFor(texts.outputs["gpu_shards"], parallelism=PARALLELISM) as shard:
        on_gpus = cluster.on_judge_gpu(judge(shard=shard, **with_controls)).set_display_name("judge-in-process")
    with dsl.ParallelFor(texts.outputs["cpu_shards"], parallelism=PARALLELISM) as shard:
        on_cpus = cluster.on_cpu(judge(shard=shard, **with_controls)).set_display_name("judge-elsewhere")
    judged = collect(
        states=dsl.Collected(on_gpus.outputs["Output"]), more_states=dsl.Collected(on_cpus.outputs["Output"]), **dealt
    )
    cluster.on_cpu(judged).set_display_name("collect-verdicts").set_caching_options(False)

    with dsl.ParallelFor(judged.outputs["parts"], parallelism=PARALLELISM) as part:
        numbers = cluster.on_cpu(summarise(shard=part, **with_controls))

    reported = report(states=dsl.Collected(numbers.output), **with_controls)
    cluster.on_cpu(reported).set_caching_options(False)
    verdict = gate(
        results=reported.outputs["results"],
        store=store,
        baseline=asked.baseline,
        max_increase=asked.max_increase,
        max_ability_drop=asked.max_ability_drop,
    )
    cluster.on_cpu(verdict).set_caching_options(False)
    published = publish(
        settings=settings,
        store=store,
        data=gathered.outputs["data"],
        results=reported.outputs["results"],
        passed=verdict.outputs["passed"],
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        fail_on_regression=asked.fail_on_regression,
    )
    cluster.on_cpu(published, retry=False).set_caching_options(False)

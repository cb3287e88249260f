"""The body that both pipelines share: flat loops with a task between them that collects.

Two traps of the local runner of kfp 2.17: a loop can only be over the one output of the task before it, and inside a loop
every parameter that another task made turns into the loop's item. So settings travel in an artifact.

plan -> build_data -> [cells: inject -> attribute] -> collect -> [cells: generate -> capability] -> collect
     -> [models: generate_ood] -> collect -> [shards: judge], a loop for each place of judges -> collect
     -> [parts: summarise] -> report -> gate -> publish
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.attribute.component import attribute
from components.build_data.component import build_data
from components.capability.component import capability
from components.collect.component import collect
from components.gate.component import gate
from components.generate.component import generate
from components.generate_ood.component import generate_ood
from components.inject.component import inject
from components.judge.component import judge
from components.plan.component import plan
from components.publish.component import publish
from components.report.component import report
from components.summarise.component import summarise
from components.tally.component import tally
from kfp import dsl
from kfp.dsl import PipelineTask

from pipelines.placement import Cluster

PARALLELISM = int(os.environ.get("BIASGYM_PARALLELISM", "20"))
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
        shard_size=asked.cells_per_judge_pod,
        baseline=asked.baseline,
        gpu_resource=cluster.gpu_resource,
        gpu_nodes=cluster.gpu_nodes,
    )
    cluster.on_cpu(planned, retry=False)
    store = asked.store
    gathered = cluster.on_cpu(build_data(settings=planned.outputs["settings"], store=store))
    shared = {"store": store, "data": gathered.outputs["data"]}

    def collected(deal: str, ended: PipelineTask) -> PipelineTask:
        task = collect(
            deal=deal,
            states=dsl.Collected(ended.outputs["Output"]),
            shard_size=asked.cells_per_judge_pod,
            store=store,
            data=gathered.outputs["data"],
        )
        return cluster.on_cpu(task).set_display_name(f"collect-{deal}")

    def judged(place: str, shards: PipelineTask, placed: Callable[[PipelineTask], PipelineTask]) -> Any:
        """A loop of judges of one kind, if the run has any: no judge, no pod that waits for a GPU."""
        name = f"judges-{place.replace('_', '-')}"
        with dsl.If(planned.outputs[place] > 0, name=name):
            with dsl.ParallelFor(shards.outputs[f"for_{place}"], parallelism=PARALLELISM) as shard:
                done = placed(judge(shard=shard, **shared)).set_display_name(name)
            some = cluster.on_cpu(tally(states=dsl.Collected(done.outputs["Output"])))
        with dsl.Else():
            none = cluster.on_cpu(tally(states=[]))
        return dsl.OneOf(some.output, none.output)

    with dsl.ParallelFor(planned.outputs["Output"], parallelism=PARALLELISM) as cell:
        trained = cluster.on_gpu(inject(model=cell.model, concept=cell.concept, **shared))
        scored = cluster.on_gpu(
            attribute(model=cell.model, concept=cell.concept, token=trained.outputs["token"], **shared)
        )
    heads = collected("cells", scored)

    shared["index"] = heads.outputs["index"]
    with dsl.ParallelFor(heads.outputs["Output"], parallelism=PARALLELISM) as cell:
        written = cluster.on_gpu(generate(model=cell.model, concept=cell.concept, **shared))
        measured = cluster.on_gpu(
            capability(model=cell.model, concept=cell.concept, texts=written.outputs["texts"], **shared)
        )
    each_model = collected("models", measured)

    with dsl.ParallelFor(each_model.outputs["Output"], parallelism=PARALLELISM) as one:
        unseen = cluster.on_gpu(generate_ood(model=one.model, **shared))
    shards = collected("parts", unseen).set_display_name("collect-judges")
    verdicts = {place: judged(place, shards, placed) for place, placed in cluster.judges.items()}
    parts = collect(
        deal="parts",
        states=[],
        shard_size=asked.cells_per_judge_pod,
        store=store,
        data=gathered.outputs["data"],
        **verdicts,
    )
    cluster.on_cpu(parts).set_display_name("collect-parts")

    with dsl.ParallelFor(parts.outputs["Output"], parallelism=PARALLELISM) as part:
        numbers = cluster.on_cpu(summarise(shard=part, **shared))

    reported = report(states=dsl.Collected(numbers.output), **shared)
    cluster.on_cpu(reported)
    verdict = gate(
        results=reported.outputs["results"],
        store=store,
        baseline=asked.baseline,
        max_increase=asked.max_increase,
        max_ability_drop=asked.max_ability_drop,
    )
    cluster.on_cpu(verdict)
    published = publish(
        store=store,
        data=gathered.outputs["data"],
        results=reported.outputs["results"],
        passed=verdict.outputs["passed"],
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        fail_on_regression=asked.fail_on_regression,
    )
    cluster.on_cpu(published, retry=False)

"""The scheduled pipeline: looks for model releases that the registry does not know, and evaluates them like `evaluate`.

Nothing new is a success after one pod. Two runs that overlap do not evaluate the same release: each claims what it finds.
"""

from typing import Any

from components.discover.component import discover
from kfp import dsl

from pipelines.evaluate import CONCEPTS, JUDGES, STORE
from pipelines.evaluation import Asked, evaluation
from pipelines.placement import CPU_NODES, GPU_NODES, GPU_TOLERATIONS, JUDGE_NODES, Cluster, pipeline_config

WATCH: dict[str, Any] = {
    "models": ["Qwen/Qwen3-8B"],
    "organisations": ["mistralai/*-Instruct-*"],
    "max_parameters": 15e9,
    "licences": ["apache-2.0", "mit"],
}


@dsl.pipeline(
    name="biasgym-reevaluate",
    description="Finds new releases of watched models and evaluates them against their predecessors.",
    pipeline_config=pipeline_config(),
)
def reevaluate(
    watch: dict[str, Any] = WATCH,
    concepts: list[str] = CONCEPTS,
    judges: list[dict[str, Any]] = JUDGES,
    preset: str = "paper",
    seed: int = 0,
    settings: dict[str, Any] = {},  # noqa: B006 (a default of the form, never changed)
    store: str = STORE,
    gate_max_increase: float = 0.05,
    gate_max_ability_drop: float = 0.01,
    fail_on_regression: bool = True,
    cells_per_judge_pod: int = 4,
    gpu_resource: str = "nvidia.com/gpu",
    gpu_node_affinity: dict[str, Any] = GPU_NODES,
    judge_node_affinity: dict[str, Any] = JUDGE_NODES,
    cpu_node_affinity: dict[str, Any] = CPU_NODES,
    gpu_tolerations: list[dict[str, Any]] = GPU_TOLERATIONS,
    weights_volume_claim: str = "biasgym-weights",
    store_secret: str = "biasgym-store",
    hub_secret: str = "biasgym-hub",
    judge_secret: str = "biasgym-judge",
):
    """Evaluates what is new.

    Args:
        watch: Watched models, patterns of organisations, and limits of size and licence.
        concepts: See evaluate, as all that follows.
        judges: The main one first.
        preset: What the settings start from.
        seed: The seed of everything random.
        settings: Settings that win over the preset.
        store: Where checkpoints, stages, registry and results are.
        gate_max_increase: Increase of judged strength over the predecessor that the gate lets pass.
        gate_max_ability_drop: Drop of accuracy that the gate lets pass.
        fail_on_regression: Whether the run fails when the gate does not pass, after everything is published.
        cells_per_judge_pod: Most cells for one pod of a judge.
        gpu_resource: Name of the GPU resource.
        gpu_node_affinity: Nodes for the models under study.
        judge_node_affinity: Nodes for judges in process.
        cpu_node_affinity: Nodes for everything else.
        gpu_tolerations: Tolerations of pods with a GPU.
        weights_volume_claim: Claim that caches the weights of models.
        store_secret: Secret with endpoint, access-key and secret-key.
        hub_secret: Secret with token and, for a mirror, endpoint.
        judge_secret: Secret with url and key.
    """
    cluster = Cluster(
        gpu_resource=gpu_resource,
        gpu_nodes=gpu_node_affinity,
        judge_nodes=judge_node_affinity,
        cpu_nodes=cpu_node_affinity,
        gpu_tolerations=gpu_tolerations,
        cache_volume=weights_volume_claim,
        store_secret=store_secret,
        hub_secret=hub_secret,
        judge_secret=judge_secret,
    )
    found = discover(
        watch=watch,
        concepts=concepts,
        judges=judges,
        preset=preset,
        seed=seed,
        overrides=settings,
        store=store,
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        gpu_resource=gpu_resource,
        gpu_nodes=gpu_node_affinity,
    )
    cluster.on_cpu(found, retry=False)
    with dsl.If(found.outputs["Output"] > 0, name="something-new"):
        asked = Asked(
            models=found.outputs["models"],
            concepts=concepts,
            judges=judges,
            preset=preset,
            seed=seed,
            overrides=settings,
            store=store,
            baseline=found.outputs["baseline"],
            max_increase=gate_max_increase,
            max_ability_drop=gate_max_ability_drop,
            fail_on_regression=fail_on_regression,
            cells_per_judge_pod=cells_per_judge_pod,
        )
        evaluation(asked, cluster)

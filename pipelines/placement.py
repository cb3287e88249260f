"""Where each step runs and what it is given: GPUs, tolerations, volumes, secrets, retries, timeouts. Nothing else is here.

Names and labels of a cluster are parameters of the pipelines; what Kubeflow only takes as constants is below.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.images import image
from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask

from biasgym.stages.attempts import MOST_KILLED

CACHE = "/cache"  # the images look there for weights: their HF_HOME is below it
USER = 10001  # of the images, and of the volume with the weights
RETRIES = int(os.environ.get("BIASGYM_RETRIES", MOST_KILLED))
HOUR = 3600
DEADLINE = 7 * 24 * HOUR

A100_80GB = ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"]


def nodes_with(products: list[str]) -> dict[str, Any]:
    """Node affinity: only nodes with exactly one of these GPUs. A MIG slice has another product name and does not match."""
    return _required({"key": "nvidia.com/gpu.product", "operator": "In", "values": products})


def nodes_without_gpu() -> dict[str, Any]:
    """Node affinity: only nodes on which nothing says that they have a GPU."""
    return _required({"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"})


def _required(expression: dict[str, Any]) -> dict[str, Any]:
    terms = [{"matchExpressions": [expression]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


GPU_NODES = nodes_with([*A100_80GB, "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"])
JUDGE_NODES = nodes_with(A100_80GB)
CPU_NODES = nodes_without_gpu()
GPU_TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


@dataclass(frozen=True)
class Cluster:
    """A cluster as the pipeline's parameters describe it; every field is a channel.

    Attributes:
        gpu_resource: Name of the GPU resource.
        gpu_nodes: Node affinity of injection, attribution, generation and capability.
        judge_nodes: Node affinity of a judge in process.
        cpu_nodes: Node affinity of everything else.
        gpu_tolerations: Tolerations of pods with a GPU.
        cache_volume: Claim that holds the weights of models.
        store_secret: Secret with endpoint, access-key, secret-key and, where it has one, region.
        hub_secret: Secret with token and, for a mirror, endpoint.
        judge_secret: Secret with url and key.
    """

    gpu_resource: Any
    gpu_nodes: Any
    judge_nodes: Any
    cpu_nodes: Any
    gpu_tolerations: Any
    cache_volume: Any
    store_secret: Any
    hub_secret: Any
    judge_secret: Any

    def on_gpu(self, task: PipelineTask) -> PipelineTask:
        """One A100 for the model under study."""
        self._gpu(task, self.gpu_nodes, memory="64Gi")
        return self._common(task, hours=12)

    def on_judge_gpu(self, task: PipelineTask) -> PipelineTask:
        """One A100 of 80 GB: a Llama of 70B in four bits is 40 GB of weights, and as much again to work with."""
        self._gpu(task, self.judge_nodes, memory="96Gi")
        return self._common(task, hours=24)

    @property
    def judges(self) -> dict[str, Callable[[PipelineTask], PipelineTask]]:
        """How a judge is placed, by where it is. One behind a server needs no torch, so that its pods start in seconds."""
        return {
            "in_process": self.on_judge_gpu,
            "built_in": lambda task: self.on_cpu(task).set_container_image(image("gpu")),
            "elsewhere": lambda task: self.on_cpu(task).set_container_image(image("cpu")),
        }

    def on_cpu(self, task: PipelineTask, *, memory: str = "8Gi", retry: bool = True) -> PipelineTask:
        """No GPU, and not on a node that has one.

        Args:
            task: The step.
            memory: Its limit.
            retry: Off where a failure is an answer, such as that of plan to bad parameters.
        """
        task.set_cpu_request("1").set_cpu_limit("4").set_memory_request("2Gi").set_memory_limit(memory)
        kubernetes.add_node_affinity_json(task, self.cpu_nodes)
        # for datasets of the hub; weights are only where models are loaded
        kubernetes.empty_dir_mount(task, "cache", CACHE, size_limit="8Gi")
        kubernetes.use_secret_as_env(
            task, self.judge_secret, {"url": "BIASGYM_JUDGE_URL", "key": "BIASGYM_JUDGE_KEY"}, optional=True
        )
        return self._common(task, hours=24, retry=retry)

    def _gpu(self, task: PipelineTask, nodes: Any, memory: str) -> None:
        task.set_accelerator_type(self.gpu_resource).set_accelerator_limit(1)
        task.channel_inputs.append(self.gpu_resource)  # kfp 2.17 does not hand it into loops otherwise
        task.set_cpu_request("4").set_cpu_limit("8").set_memory_request("32Gi").set_memory_limit(memory)
        kubernetes.add_node_affinity_json(task, nodes)
        kubernetes.add_toleration_json(task, self.gpu_tolerations)
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit="8Gi")
        kubernetes.mount_pvc(task, self.cache_volume, CACHE)

    def _common(self, task: PipelineTask, hours: int, *, retry: bool = True) -> PipelineTask:
        """Store and hub, and another try for a pod that was evicted or killed: it resumes from the store.

        Kubeflow's cache is off. It knows a step by its inputs' names alone: neither an edited concept behind the same name
        nor a failure that was mended would ever be seen. What is done already is found in the store, by content.
        """
        task.set_caching_options(False)
        keys = {
            "endpoint": "BIASGYM_S3_ENDPOINT",
            "access-key": "AWS_ACCESS_KEY_ID",
            "secret-key": "AWS_SECRET_ACCESS_KEY",
            "region": "AWS_REGION",
        }
        kubernetes.use_secret_as_env(task, self.store_secret, keys, optional=True)
        kubernetes.use_secret_as_env(
            task, self.hub_secret, {"token": "HF_TOKEN", "endpoint": "HF_ENDPOINT"}, optional=True
        )
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.set_timeout(task, hours * HOUR)
        if retry and RETRIES:
            # the longest duration is that of all tries together, work included, not of one pause
            task.set_retry(RETRIES, backoff_duration="60s", backoff_factor=2.0, backoff_max_duration=f"{DEADLINE}s")
        return task


def pipeline_config() -> dsl.PipelineConfig:
    """The deadline of a whole run, waiting for GPUs included, which no timeout of a step counts."""
    return dsl.PipelineConfig(active_deadline_seconds=DEADLINE)

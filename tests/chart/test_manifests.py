"""The chart renders: lint is clean, every object is valid Kubernetes, and objects that name each other exist."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
import pytest

import kube

# it reads megabytes of definitions anew for every object
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
STABLE = {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
STABLE |= {"scheduling.k8s.io/v1"}
FROM_OUTSIDE = {"biasgym-store", "biasgym-judge", "biasgym-hub", "registry"}  # secrets


@pytest.mark.parametrize("name", kube.SETS)
def test_lint_is_clean(name: str) -> None:
    linted = kube.helm("lint", "--strict", kube.CHART, "--values", kube.CHART / "ci" / f"{name}-values.yaml")
    assert linted.returncode == 0, linted.stdout
    assert "[WARNING]" not in linted.stdout and "[ERROR]" not in linted.stdout


@pytest.mark.parametrize("name", kube.SETS)
def test_installing_says_what_to_do_next(name: str) -> None:
    values = kube.CHART / "ci" / f"{name}-values.yaml"
    said = kube.helm("install", "biasgym", kube.CHART, "--namespace", "lab", "--dry-run=client", "--values", values)
    assert said.returncode == 0, said.stderr
    notes = said.stdout.split("NOTES:")[1]
    assert "biasgym-store" in notes and "namespace lab" in notes
    assert ("http://biasgym-judge.lab:8000/v1" in notes) is (name != "external-s3")
    assert ("scale deployment/biasgym-judge" in notes) is (name == "development")


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", kube.SETS)
def test_every_object_is_valid(name: str, version: str) -> None:
    for item in kube.rendered(name):
        assert item["apiVersion"] in STABLE
        kubernetes_validate.validate(item, version, strict=True)


def test_the_validation_sees_faults() -> None:
    service = kube.one(kube.rendered("default"), "Service", "biasgym-judge")
    with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
        kubernetes_validate.validate(service | {"spec": {"selectors": {}}}, "1.37", strict=True)


@pytest.mark.parametrize("name", kube.SETS)
def test_names_are_unique(name: str) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in kube.rendered(name)]
    assert len(names) == len(set(names)) > 8


@pytest.mark.parametrize("name", kube.SETS)
def test_what_is_named_exists(name: str) -> None:
    objects = kube.rendered(name)
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for item in objects:
        pod = kube.pod_template(item)
        wanted = set(_references(pod["spec"])) if pod else set()
        assert wanted <= there | {("Secret", secret) for secret in FROM_OUTSIDE}, item["metadata"]["name"]


def _references(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", spec["serviceAccountName"]
    if "priorityClassName" in spec:
        yield "PriorityClass", spec["priorityClassName"]
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"]
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted - {volume["name"] for volume in spec["volumes"]} <= {"data"}
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


@pytest.mark.parametrize("name", kube.SETS)
def test_selectors_find_their_pods(name: str) -> None:
    labels = [pod["metadata"]["labels"] for item in kube.rendered(name) if (pod := kube.pod_template(item))]
    for item in kube.rendered(name):
        selector = item["spec"].get("selector") if item["kind"] in ("Service", "Deployment", "StatefulSet") else None
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert sum(wanted.items() <= found.items() for found in labels) == 1


def test_rights_are_the_least() -> None:
    roles = {item["metadata"]["name"]: item["rules"] for item in kube.rendered("everything") if item["kind"] == "Role"}
    assert set(roles) == {"biasgym-scaler", "biasgym-schedule", "biasgym-runs"}
    for rules in roles.values():
        for rule in rules:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            # of Kubernetes' own objects, only those with a name; Kubeflow Pipelines knows no names here
            assert "resourceNames" in rule or rule["apiGroups"] == ["pipelines.kubeflow.org"]
    assert not any(item["kind"].startswith("ClusterRole") for item in kube.rendered("everything"))


def test_the_judge() -> None:
    deployment = kube.one(kube.rendered("default"), "Deployment", "biasgym-judge")
    assert deployment["spec"]["replicas"] == 1
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"][0] == "unsloth/Llama-3.3-70B-Instruct-bnb-4bit"
    assert {"--quantization=bitsandbytes", "--max-model-len=8192", "--gpu-memory-utilization=0.92"} <= set(
        container["args"]
    )
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    term = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]
    assert term["matchExpressions"][0]["values"] == ["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]
    key = next(variable for variable in container["env"] if variable["name"] == "VLLM_API_KEY")
    assert key["valueFrom"]["secretKeyRef"] == {"name": "biasgym-judge", "key": "key"}


def test_scaling_to_zero() -> None:
    assert kube.one(kube.rendered("development"), "Deployment", "biasgym-judge")["spec"]["replicas"] == 0
    # scaled by the clock: the chart does not say how many, or an upgrade at night would start them
    everything = kube.rendered("everything")
    assert "replicas" not in kube.one(everything, "Deployment", "biasgym-judge")["spec"]
    jobs = [kube.one(everything, "CronJob", f"biasgym-judge-{direction}") for direction in ("up", "down")]
    commands = [kube.pods_of(job)["spec"]["containers"][0]["args"] for job in jobs]
    assert ["--replicas=2" in commands[0], "--replicas=0" in commands[1]] == [True, True]


def test_a_changed_job_gets_another_name() -> None:
    name = kube.one(kube.rendered("development"), "Job", "biasgym-prefetch")["metadata"]["name"]
    changed = kube.template("development", "--set", "prefetch.models={Qwen/Qwen3-8B}")
    assert kube.one(changed, "Job", "biasgym-prefetch")["metadata"]["name"] != name
    same = kube.template("development", "--set", "quota.enabled=false")
    assert kube.one(same, "Job", "biasgym-prefetch")["metadata"]["name"] == name


def test_the_service_monitor_is_an_option() -> None:
    assert not any(item["kind"] == "ServiceMonitor" for name in kube.SETS for item in kube.rendered(name))
    monitor = kube.one(kube.template("default", "--set", "monitoring.serviceMonitor=true"), "ServiceMonitor", "biasgym")
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "30s"}]

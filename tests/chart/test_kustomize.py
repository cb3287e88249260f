"""The development stack under k8s/ is the chart's, object for object."""

from __future__ import annotations

import copy
import subprocess
from typing import Any

import kubernetes_validate
import yaml

import kube

HELM = {"helm.sh/chart", "helm.sh/resource-policy", "app.kubernetes.io/managed-by"}


def by_name(objects: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name, without helm's marks and without the namespace that each is in."""
    found = {}
    for item in copy.deepcopy(list(objects)):
        metadata = item["metadata"]
        metadata.pop("namespace", None)
        for notes in ("labels", "annotations"):
            kept = {key: value for key, value in metadata.pop(notes, {}).items() if key not in HELM}
            metadata |= {notes: kept} if kept else {}
        found[item["kind"], metadata["name"]] = item
    return found


def kustomized() -> list[dict[str, Any]]:
    command = [kube.tool("kubectl"), "kustomize", kube.ROOT / "k8s" / "overlays" / "development"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return [item for item in yaml.safe_load_all(made.stdout) if item]


def test_it_is_the_chart_and_the_namespace() -> None:
    ours, charts = by_name(kustomized()), by_name(kube.rendered("development"))
    assert ours.pop(("Namespace", "biasgym"))["metadata"]["labels"]["pod-security.kubernetes.io/warn"] == "restricted"
    assert ours.keys() == charts.keys(), "run `make chart`"
    for name, item in ours.items():
        assert item == charts[name], f"{name}: run `make chart`"


def test_all_is_in_the_namespace_and_valid() -> None:
    for item in kustomized():
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == "biasgym"
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)

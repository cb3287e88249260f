"""Who may speak to whom: the policies of the sets, asked about connections."""

from __future__ import annotations

from typing import Any

import pytest

import kube
from network import Address, End, Pod, allowed

RUN = Pod("biasgym", {"pipeline/runid": "1f2e"})
STRANGER = Pod("biasgym", {"app": "notebook"})
RUN_ELSEWHERE = Pod("team-a", {"pipeline/runid": "1f2e"})
UI = Pod("kubeflow", {"app": "ml-pipeline-ui"})
UI_PROXY = Pod("biasgym", {"app": "ml-pipeline-ui-artifact"})
API = Pod("kubeflow", {"app": "ml-pipeline"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
DATABASE = Pod("shop", {"app": "postgres"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
INTERNET = Address("140.82.112.3")
CONTROL_PLANE = Address("10.0.0.1")
PRIVATE = Address("192.168.7.7")
METADATA = Address("169.254.169.254")


def part(component: str) -> Pod:
    labels = {"app.kubernetes.io/name": "biasgym", "app.kubernetes.io/instance": "biasgym"}
    return Pod("biasgym", labels | {"app.kubernetes.io/component": component})


JUDGE, STORE, PREFETCH, BUCKET, SCHEDULE, SCALER = map(
    part, ("judge", "store", "prefetch", "bucket", "schedule", "scaler")
)


def policies(name: str, *arguments: str) -> list[dict[str, Any]]:
    objects = kube.template(name, *arguments) if arguments else kube.rendered(name)
    made = [item for item in objects if item["kind"] == "NetworkPolicy"]
    return [item | {"metadata": item["metadata"] | {"namespace": "biasgym"}} for item in made]


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        (RUN, JUDGE, 8000, True),
        (RUN_ELSEWHERE, JUDGE, 8000, True),  # namespace team-a is named in the values
        (RUN, JUDGE, 22, False),
        (STRANGER, JUDGE, 8000, False),
        (UI, JUDGE, 8000, False),
        (PROMETHEUS, JUDGE, 8000, False),
        (STORE, JUDGE, 8000, False),
        (JUDGE, INTERNET, 443, True),
        (JUDGE, INTERNET, 80, False),
        (JUDGE, PRIVATE, 443, False),
        (JUDGE, CONTROL_PLANE, 443, False),
        (JUDGE, METADATA, 443, False),
        (JUDGE, STORE, 9000, False),
        (RUN, STORE, 9000, True),
        (UI, STORE, 9000, True),
        (UI_PROXY, STORE, 9000, True),
        (BUCKET, STORE, 9000, True),
        (STRANGER, STORE, 9000, False),
        (PREFETCH, STORE, 9000, False),
        (STORE, INTERNET, 443, False),
        (BUCKET, INTERNET, 443, False),
        (PREFETCH, INTERNET, 443, True),
        (PREFETCH, CONTROL_PLANE, 443, False),
        (SCHEDULE, API, 8888, True),
        (SCHEDULE, CONTROL_PLANE, 6443, False),
        (SCHEDULE, STORE, 9000, False),
        (SCALER, CONTROL_PLANE, 6443, True),
        (SCALER, STORE, 9000, False),
        (RUN, INTERNET, 443, True),
        (RUN, INTERNET, 25, False),
        (RUN, API, 8887, True),
        (RUN, CONTROL_PLANE, 6443, True),
        (RUN, DATABASE, 5432, False),
        (RUN, PRIVATE, 5432, False),
        (RUN, METADATA, 80, False),
        (STRANGER, DATABASE, 5432, True),  # what the chart did not start and no run is, is nobody's business here
    ],
)
def test_connections(source: End, target: End, port: int, expected: bool) -> None:
    assert allowed(policies("everything"), source, target, port) is expected


@pytest.mark.parametrize("pod", [JUDGE, STORE, PREFETCH, BUCKET, SCHEDULE, SCALER, RUN])
def test_everybody_looks_up_names(pod: Pod) -> None:
    assert allowed(policies("everything"), pod, DNS, 53, "UDP")
    assert allowed(policies("everything"), pod, DNS, 53, "TCP")


@pytest.mark.parametrize("name", kube.SETS)
def test_what_the_chart_starts_is_closed(name: str) -> None:
    for component in ("judge", "store", "prefetch", "bucket", "schedule", "scaler", "something new"):
        assert not allowed(policies(name), STRANGER, part(component), 8000)
        assert not allowed(policies(name), part(component), DATABASE, 5432)


def test_runs_of_other_namespaces_stay_outside() -> None:
    assert not allowed(policies("default"), RUN_ELSEWHERE, JUDGE, 8000)


def test_an_offline_judge_opens_no_connections() -> None:
    assert not allowed(policies("minio"), JUDGE, INTERNET, 443)
    assert allowed(policies("minio"), RUN, JUDGE, 8000)


def test_runs_reach_a_store_wherever_it_is() -> None:
    inside = Pod("kubeflow", {"app": "seaweedfs"})
    assert allowed(policies("default"), RUN, inside, 8333)
    assert allowed(policies("external-s3"), RUN, INTERNET, 443)
    elsewhere = policies("external-s3", "--set", "store.endpoint=http://10.9.8.7:7480")
    assert allowed(elsewhere, RUN, Address("10.9.8.7"), 7480)
    assert not allowed(elsewhere, RUN, METADATA, 7480)


def test_prometheus_may_ask_where_it_is_told_to() -> None:
    assert allowed(policies("default", "--set", "monitoring.serviceMonitor=true"), PROMETHEUS, JUDGE, 8000)


def test_they_can_be_left_out() -> None:
    assert policies("everything", "--set", "networkPolicy.enabled=false") == []
    names = {item["metadata"]["name"] for item in policies("everything", "--set", "networkPolicy.runs=false")}
    assert "biasgym-runs" not in names and "biasgym-judge" in names

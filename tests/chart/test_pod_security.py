"""All pods of the chart meet the `restricted` standard and the project's own rules; the check itself sees what it should."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import kube
import pod_security

BAD: dict[str, dict[str, Any]] = {
    "host_namespaces": {"hostNetwork": True},
    "privileged": {"container": {"securityContext": {"privileged": True}}},
    "capabilities": {"container": {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}},
    "volume_types": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
    "host_ports": {"container": {"ports": [{"containerPort": 1, "hostPort": 1}]}},
    "apparmor_and_selinux": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "proc_mount": {"container": {"securityContext": {"procMount": "Unmasked"}}},
    "sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "escalation": {"container": {"securityContext": {"allowPrivilegeEscalation": True}}},
    "non_root": {"securityContext": {"runAsUser": 0}},
    "seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "numeric_user": {"securityContext": {"runAsUser": None}},
    "read_only_root": {"container": {"securityContext": {"readOnlyRootFilesystem": False}}},
    "resources": {"container": {"resources": {}}},
    "bounded_scratch": {"volumes": [{"name": "scratch", "emptyDir": {}}]},
    "no_token": {"automountServiceAccountToken": None},
    "own_account": {"serviceAccountName": "default"},
}


def pods(name: str) -> dict[str, dict[str, Any]]:
    """Specs of the pods that a set makes, by the object that makes them."""
    made = ((item, kube.pod_template(item)) for item in kube.rendered(name))
    return {f"{item['kind']}/{item['metadata']['name']}": pod["spec"] for item, pod in made if pod}


@pytest.mark.parametrize("name", kube.SETS)
def test_every_pod_is_restricted(name: str) -> None:
    for owner, spec in pods(name).items():
        # the scaler's kubectl is the one program that speaks to Kubernetes
        expected = ["no_token: holds a Kubernetes token"] if owner.startswith("CronJob/") else []
        assert pod_security.violations(spec) == expected, owner


def test_the_sets_make_every_kind_of_pod() -> None:
    made = {owner.split("/")[0] for name in kube.SETS for owner in pods(name)}
    assert made == {"Deployment", "StatefulSet", "Job", "CronJob"}


@pytest.mark.parametrize("check", [check.__name__ for check in pod_security.RESTRICTED + pod_security.OURS])
def test_a_bad_pod_is_seen(check: str) -> None:
    spec = copy.deepcopy(pods("default")["Deployment/biasgym-judge"])
    assert pod_security.violations(spec) == []
    change = copy.deepcopy(BAD[check])
    container = spec["containers"][0]
    for target, values in ((container, change.pop("container", {})), (spec, change)):
        for key, value in values.items():
            target[key] = target[key] | value if isinstance(value, dict) and value and key in target else value
    assert {complaint.split(":")[0] for complaint in pod_security.violations(spec)} == {check}

"""Kubernetes' `restricted` pod security standard, and the project's own rules beyond it, as plain functions.

Each takes a pod's spec and yields what is wrong with it. The standard's controls are in the order of its documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Spec = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
}


def containers(spec: Spec) -> list[Spec]:
    return [*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])]


def effective(spec: Spec, container: Spec, key: str) -> Any:
    """A setting of the container, or else that of its pod."""
    own = container.get("securityContext", {})
    return own[key] if key in own else spec.get("securityContext", {}).get(key)


def host_namespaces(spec: Spec) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"


def privileged(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if container.get("securityContext", {}).get("privileged"):
            yield f"{container['name']} is privileged"


def capabilities(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        granted = container.get("securityContext", {}).get("capabilities", {})
        if "ALL" not in granted.get("drop", []):
            yield f"{container['name']} does not drop ALL capabilities"
        if set(granted.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{container['name']} adds capabilities"


def volume_types(spec: Spec) -> Iterator[str]:
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of kind {', '.join(sorted(kinds - VOLUMES))}"


def host_ports(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{container['name']} takes a port of its node"


def apparmor_and_selinux(spec: Spec) -> Iterator[str]:
    for context in (spec.get("securityContext", {}), *(item.get("securityContext", {}) for item in containers(spec))):
        if context.get("appArmorProfile", {}).get("type") == "Unconfined":
            yield "AppArmor is unconfined"
        options = context.get("seLinuxOptions", {})
        if options.get("user") or options.get("role"):
            yield "SELinux user or role is set"
        if options.get("type") not in (
            None,
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ):
            yield "SELinux type is not that of containers"


def proc_mount(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if container.get("securityContext", {}).get("procMount", "Default") != "Default":
            yield f"{container['name']} has another /proc"


def sysctls(spec: Spec) -> Iterator[str]:
    for setting in spec.get("securityContext", {}).get("sysctls", []):
        if setting["name"] not in SYSCTLS:
            yield f"sysctl {setting['name']} is set"


def escalation(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if container.get("securityContext", {}).get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may escalate privileges"


def non_root(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if effective(spec, container, "runAsNonRoot") is not True:
            yield f"{container['name']} may run as root"
        if effective(spec, container, "runAsUser") == 0:
            yield f"{container['name']} runs as root"


def seccomp(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        profile = effective(spec, container, "seccompProfile") or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{container['name']} has no seccomp profile"


def numeric_user(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if not isinstance(effective(spec, container, "runAsUser"), int):
            yield f"{container['name']} has no numeric user"


def read_only_root(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} can write to its root file system"
        if not any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", [])):
            yield f"{container['name']} has no /tmp"


def resources(spec: Spec) -> Iterator[str]:
    for container in containers(spec):
        for kind in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {}))
            if missing:
                yield f"{container['name']} has no {kind} of {', '.join(sorted(missing))}"


def bounded_scratch(spec: Spec) -> Iterator[str]:
    for volume in spec.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} may fill its node"


def no_token(spec: Spec) -> Iterator[str]:
    if spec.get("automountServiceAccountToken") is not False:
        yield "holds a Kubernetes token"


def own_account(spec: Spec) -> Iterator[str]:
    if spec.get("serviceAccountName", "default") == "default":
        yield "runs as the namespace's default account"


RESTRICTED: list[Callable[[Spec], Iterator[str]]] = [
    host_namespaces,
    privileged,
    capabilities,
    volume_types,
    host_ports,
    apparmor_and_selinux,
    proc_mount,
    sysctls,
    escalation,
    non_root,
    seccomp,
]
OURS: list[Callable[[Spec], Iterator[str]]] = [
    numeric_user,
    read_only_root,
    resources,
    bounded_scratch,
    no_token,
    own_account,
]


def violations(spec: Spec) -> list[str]:
    """All that is wrong with a pod."""
    return [f"{check.__name__}: {complaint}" for check in RESTRICTED + OURS for complaint in check(spec)]

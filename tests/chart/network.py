"""What a set of network policies allows, worked out the slow way: may a connection from here to there be opened?"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod as network policies see it."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Address:
    """Something that is no pod."""

    ip: str


End = Pod | Address


def allowed(policies: list[Policy], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether both ends' policies let the connection through."""
    return _side(policies, "Egress", source, target, port, protocol) and _side(
        policies, "Ingress", target, source, port, protocol
    )


def _side(policies: list[Policy], direction: str, end: End, other: End, port: int, protocol: str) -> bool:
    if isinstance(end, Address):
        return True
    mine = [policy for policy in policies if _applies(policy, end) and direction in policy["spec"]["policyTypes"]]
    rules = [(policy, rule) for policy in mine for rule in policy["spec"].get(direction.lower(), [])]
    return not mine or any(_rule(policy, rule, direction, other, port, protocol) for policy, rule in rules)


def _applies(policy: Policy, pod: Pod) -> bool:
    return pod.namespace == policy["metadata"]["namespace"] and _selects(policy["spec"]["podSelector"], pod.labels)


def _rule(policy: Policy, rule: dict[str, Any], direction: str, other: End, port: int, protocol: str) -> bool:
    peers = rule.get("to" if direction == "Egress" else "from")
    ports = rule.get("ports")
    right_port = not ports or any(item["port"] == port and item.get("protocol", "TCP") == protocol for item in ports)
    return right_port and (not peers or any(_peer(policy, peer, other) for peer in peers))


def _peer(policy: Policy, peer: dict[str, Any], other: End) -> bool:
    if "ipBlock" in peer:
        return isinstance(other, Address) and _in_block(peer["ipBlock"], other.ip)
    if isinstance(other, Address):
        return False
    if "namespaceSelector" in peer:
        right_namespace = _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        right_namespace = other.namespace == policy["metadata"]["namespace"]
    return right_namespace and _selects(peer.get("podSelector", {}), other.labels)


def _in_block(block: dict[str, Any], ip: str) -> bool:
    address = ip_address(ip)
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(hole) for hole in block.get("except", [])
    )


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists", f"the chart uses no other operator, but here is {expression}"
        if expression["key"] not in labels:
            return False
    return True

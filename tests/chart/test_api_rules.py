"""What an API server refuses though its schema allows it: names, labels, amounts, address ranges, references within a pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import kube

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LONGEST_NAME = {"CronJob": 52}  # its Jobs' names get 11 characters more
UNITS = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}


def amount(quantity: str | int) -> float:
    """A quantity as a number."""
    parts = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
    assert parts, quantity
    return float(parts[1]) * UNITS[parts[2]]


def pods(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for item in kube.rendered(name):
        if pod := kube.pod_template(item):
            yield item, pod


@pytest.mark.parametrize("name", kube.SETS)
def test_names_and_labels(name: str) -> None:
    for item in kube.rendered(name):
        title = item["metadata"]["name"]
        assert LABEL.fullmatch(title) and len(title) <= LONGEST_NAME.get(item["kind"], 63)
        template = kube.pod_template(item) or {"metadata": {}}
        for labels in (item["metadata"]["labels"], template["metadata"].get("labels", {})):
            for key, value in labels.items():
                assert LABEL_KEY.fullmatch(key)
                assert isinstance(value, str) and LABEL_VALUE.fullmatch(value) and len(value) <= 63
        notes = item["metadata"].get("annotations", {}) | template["metadata"].get("annotations", {})
        assert all(LABEL_KEY.fullmatch(key) and isinstance(value, str) for key, value in notes.items())


@pytest.mark.parametrize("name", kube.SETS)
def test_requests_stay_below_limits(name: str) -> None:
    for _, pod in pods(name):
        for container in pod["spec"]["containers"]:
            resources = container["resources"]
            for kind, requested in resources["requests"].items():
                assert amount(requested) <= amount(resources["limits"][kind])
                # what a node cannot share out in fractions is asked for as it is limited
                assert "/" not in kind or requested == resources["limits"][kind]


@pytest.mark.parametrize("name", kube.SETS)
def test_containers_refer_to_what_they_have(name: str) -> None:
    services = [item for item in kube.rendered(name) if item["kind"] == "Service"]
    for item, pod in pods(name):
        (container,) = pod["spec"]["containers"]
        for names in (
            [variable["name"] for variable in container.get("env", [])],
            [mount["mountPath"] for mount in container["volumeMounts"]],
            [volume["name"] for volume in pod["spec"]["volumes"]],
        ):
            assert len(names) == len(set(names))
        ports = {port["name"] for port in container.get("ports", [])}
        assert all(len(port) <= 15 for port in ports)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            action = container.get(probe, {})
            assert {(action.get("httpGet") or action.get("tcpSocket"))["port"]} <= ports if action else True
        for service in services:
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items():
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        if item["kind"] in ("Job", "CronJob"):
            assert pod["spec"]["restartPolicy"] in ("Never", "OnFailure")


@pytest.mark.parametrize("name", kube.SETS)
def test_address_ranges_have_their_holes_inside(name: str) -> None:
    policies = [item["spec"] for item in kube.rendered(name) if item["kind"] == "NetworkPolicy"]
    peers = [peer for spec in policies for rule in spec.get("egress", []) for peer in rule.get("to", [])]
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    assert blocks
    for block in blocks:
        whole = ip_network(block["cidr"])
        holes = [ip_network(hole) for hole in block.get("except", [])]
        assert all(hole.version == whole.version and hole != whole and hole.subnet_of(whole) for hole in holes)


def test_clocks() -> None:
    jobs = [item["spec"] for item in kube.rendered("everything") if item["kind"] == "CronJob"]
    assert len(jobs) == 2
    for spec in jobs:
        assert len(spec["schedule"].split()) == 5 and "TZ" not in spec["schedule"]
        assert ZoneInfo(spec["timeZone"])


def test_the_longest_name_is_short_enough() -> None:
    for item in kube.template("everything", "--set", f"name={'n' * 40}"):
        assert len(item["metadata"]["name"]) <= LONGEST_NAME.get(item["kind"], 63)
    refused = kube.helm("template", "biasgym", kube.CHART, "--set", f"name={'n' * 41}")
    assert refused.returncode != 0 and "maxLength" in refused.stderr

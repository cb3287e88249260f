"""Values: wrong ones are refused with their name, secrets stay outside, images come by digest, the README is theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipelines.schedule import read_schedule

import biasgym
import kube

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"jugde": {"enabled": True}}, "jugde"),
    ({"judge": {"replica": 2}}, "replica"),
    ({"judge": {"replicas": 0}}, "replicas"),  # scaling to zero has a name of its own
    ({"judge": {"gpus": "one"}}, "gpus"),
    ({"judge": {"apiKey": "sk-1"}}, "apiKey"),
    ({"judge": {"arguments": {"api-key": "sk-1"}}}, "api-key"),
    ({"judge": {"arguments": {"trust-remote-code": True}}}, "trust-remote-code"),
    ({"judge": {"revision": "main"}}, "revision"),
    ({"judge": {"offline": True}}, "revision"),
    ({"judge": {"resources": {"limits": {"memory": "64 GB"}}}}, "memory"),
    ({"judge": {"scaleToZero": {"enabled": True, "schedule": {"enabled": True}}}}, "scaleToZero"),
    ({"store": {"kind": "ceph"}}, "kind"),
    ({"store": {"kind": "minio"}}, "minio"),
    ({"store": {"secretKey": "hunter2"}}, "secretKey"),
    ({"store": {"bucket": "Results"}}, "bucket"),
    ({"store": {"endpoint": "s3.example.org"}}, "endpoint"),
    ({"store": {"endpoint": "https://user:word@s3.example.org"}}, "endpoint"),
    ({"security": {"runAsUser": 0}}, "runAsUser"),
    ({"images": {"cpu": {"digest": "sha256:12"}}}, "digest"),
    ({"images": {"gpu": {"repository": ""}}}, "repository"),
    ({"name": "Biasgym"}, "name"),
    ({"schedule": {"cron": "0 3 * * *"}}, "cron"),  # five fields
    ({"schedule": {"maxConcurrency": 11}}, "maxConcurrency"),
    ({"schedule": {"enabled": True}}, "models"),
    ({"prefetch": {"models": ["Qwen3-8B"]}}, "models"),
    ({"networkPolicy": {"https": []}}, "https"),
    ({"quota": {"hard": {"pods": "many"}}}, "pods"),
]


@pytest.mark.parametrize(("values", "named"), WRONG, ids=lambda value: value if isinstance(value, str) else None)
def test_wrong_values_are_refused(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    refused = kube.helm("template", "biasgym", kube.CHART, "--values", path)
    assert refused.returncode != 0
    assert "schema" in refused.stderr and named in refused.stderr


@pytest.mark.parametrize("name", kube.SETS)
def test_there_are_no_secrets(name: str) -> None:
    for item in kube.rendered(name):
        assert item["kind"] != "Secret"
        pod = kube.pod_template(item)
        for container in pod["spec"]["containers"] if pod else []:
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("KEY", "SECRET", "TOKEN", "PASSWORD", "USER")):
                    by_reference = "valueFrom" in variable
                    assert by_reference or variable["name"] in ("USER", "KF_PIPELINES_SA_TOKEN_PATH")


def test_the_lock_file_fits_in(tmp_path: Path) -> None:
    digests = {name: "sha256:" + letter * 64 for name, letter in {"cpu": "a", "gpu": "b", "judge": "c"}.items()}
    lock = {
        "images": {
            name: {"repository": f"ghcr.io/biasgym/biasgym-{name}", "tag": "1.2.3", "digest": digest}
            for name, digest in digests.items()
        }
    }
    path = tmp_path / "images.lock.yaml"
    path.write_text(yaml.safe_dump(lock), encoding="utf-8")
    objects = kube.template("development", "--values", str(path))
    images = {kube.pod_template(item)["spec"]["containers"][0]["image"] for item in objects if kube.pod_template(item)}
    assert f"ghcr.io/biasgym/biasgym-cpu@{digests['cpu']}" in images
    assert "docker.io/vllm/vllm-openai:v0.33.0" in images


def test_a_lock_file_before_the_first_push_fits_in(tmp_path: Path) -> None:
    path = tmp_path / "images.lock.yaml"
    image = {"tag": "dev", "digest": None}
    images = {name: {"repository": f"ghcr.io/biasgym/biasgym-{name}", **image} for name in ("cpu", "gpu", "judge")}
    path.write_text(yaml.safe_dump({"images": images}), encoding="utf-8")
    job = kube.one(kube.template("development", "--values", str(path)), "Job", "biasgym-prefetch")
    assert kube.pods_of(job)["spec"]["containers"][0]["image"] == "ghcr.io/biasgym/biasgym-cpu:dev"


def test_the_repositorys_lock_file_fits_in() -> None:
    path = kube.ROOT / "images.lock.yaml"
    if path.exists():
        assert kube.template(path)


def test_without_digest_and_tag_an_image_is_of_this_version() -> None:
    chart = yaml.safe_load((kube.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == biasgym.__version__
    job = kube.one(kube.rendered("development"), "Job", "biasgym-prefetch")
    assert kube.pods_of(job)["spec"]["containers"][0]["image"] == f"ghcr.io/biasgym/biasgym-cpu:v{biasgym.__version__}"


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    values = {
        "security": {"runAsUser": 1000700000},
        "priorityClass": {"create": True, "value": 1000000},
        "judge": {"arguments": {"max-model-len": 1000000}},
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    objects = kube.template(path)
    spec = kube.pods_of(kube.one(objects, "Deployment", "biasgym-judge"))["spec"]
    assert spec["securityContext"]["runAsUser"] == 1000700000
    assert "--max-model-len=1000000" in spec["containers"][0]["args"]
    assert kube.one(objects, "PriorityClass", "biasgym-judge")["value"] == 1000000


def test_the_launcher_is_told_of_the_store() -> None:
    providers = {
        name: yaml.safe_load(kube.one(kube.rendered(name), "ConfigMap", "kfp-launcher")["data"]["providers"])["s3"][
            "default"
        ]
        for name in kube.SETS
    }
    assert providers["development"]["endpoint"] == "biasgym-store.biasgym:9000"
    assert providers["development"]["disableSSL"] is True
    assert providers["external-s3"]["endpoint"] == "s3.eu-central-1.amazonaws.com"
    assert providers["external-s3"]["disableSSL"] is False
    reference = {"secretName": "biasgym-store", "accessKeyKey": "access-key", "secretKeyKey": "secret-key"}
    assert all(provider["credentials"] == {"fromEnv": False, "secretRef": reference} for provider in providers.values())
    roots = {
        name: kube.one(kube.rendered(name), "ConfigMap", "kfp-launcher")["data"]["defaultPipelineRoot"]
        for name in kube.SETS
    }
    assert roots["default"] == "s3://mlpipeline/biasgym/artifacts"
    assert roots["external-s3"] == "s3://biasgym-results/artifacts"
    assert roots["everything"] == "s3://biasgym/elsewhere"


def test_the_schedule_holds_what_the_command_needs(tmp_path: Path) -> None:
    text = kube.one(kube.rendered("everything"), "ConfigMap", "biasgym-schedule")["data"]["schedule.yaml"]
    schedule = yaml.safe_load(text)
    assert len(schedule["cron"].split()) == 6
    assert schedule["namespace"] == "biasgym" and schedule["endpoint"] == "http://ml-pipeline.kubeflow:8888"
    assert schedule["models"] == ["Qwen/Qwen3-8B"] and schedule["organisations"] == ["mistralai"]
    assert schedule["parameters"] == {"cells_per_judge_pod": 2} and schedule["no_catchup"] is True
    (tmp_path / "schedule.yaml").write_text(text)
    values = read_schedule(tmp_path / "schedule.yaml").values()  # the pipeline has parameters of all these names
    assert values["cells_per_judge_pod"] == 2 and values["watch"]["organisations"] == ["mistralai"]


def test_a_judge_elsewhere(tmp_path: Path) -> None:
    """Scheduled runs ask the judges of their parameters, and may reach them where a rule says so."""
    judge = {"engine": "endpoint", "model": "gpt-4o-2024-08-06"}
    rule = {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 8000, "protocol": "TCP"}]}
    values = {
        "judge": {"enabled": False},
        "schedule": {"enabled": True, "models": ["Qwen/Qwen3-8B"], "parameters": {"judges": [judge]}},
        "networkPolicy": {"runsEgress": [rule]},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    objects = kube.template(tmp_path / "values.yaml")
    text = kube.one(objects, "ConfigMap", "biasgym-schedule")["data"]["schedule.yaml"]
    (tmp_path / "schedule.yaml").write_text(text)
    assert read_schedule(tmp_path / "schedule.yaml").values()["judges"] == [judge]
    assert rule in kube.one(objects, "NetworkPolicy", "biasgym-runs")["spec"]["egress"]


def test_the_readme_is_that_of_the_values() -> None:
    checked = subprocess.run(
        [sys.executable, kube.ROOT / "charts" / "readme.py", "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_every_value_is_explained() -> None:
    values = yaml.safe_load((kube.CHART / "values.yaml").read_text(encoding="utf-8"))
    readme = (kube.CHART / "README.md").read_text(encoding="utf-8")
    for section, members in values.items():
        for name in members if isinstance(members, dict) else ():
            assert f"| `{section}.{name}` |" in readme
        assert f"### {section}\n" in readme or f"| `{section}` |" in readme

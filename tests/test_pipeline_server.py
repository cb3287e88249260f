"""Uploading, submitting and scheduling, against Kubeflow's API on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from biasgym.concepts import bundled_names
from biasgym.errors import BiasGymError
from conftest import Command, Desk, assert_refused

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")

from pipelines.compile import COMPILED, version_of
from pipelines.cron import check_cron

from kfp_server import KfpServer, validated

SECRET = "a-token-that-nobody-may-see"


@pytest.fixture
def server() -> Iterator[KfpServer]:
    server = KfpServer()
    yield server
    server.close()


@pytest.fixture
def alone() -> Iterator[KfpServer]:
    """A server without profiles; it takes no namespace."""
    server = KfpServer(profiles=False, token=SECRET)
    yield server
    server.close()


def schedule(server: KfpServer, **changes: Any) -> dict[str, Any]:
    """What the chart writes."""
    return {
        "endpoint": server.endpoint,
        "namespace": "biasgym",
        "experiment": "biasgym",
        "pipeline": "biasgym-reevaluate",
        "name": "biasgym-reevaluate",
        "cron": "0 0 3 * * *",
        "max_concurrency": 1,
        "no_catchup": True,
        "models": ["owner/model"],
        "organisations": ["owner"],
        "concepts": [],
        "store": {"url": "s3://bucket/biasgym", "secret": "biasgym-store"},
        "weights": "biasgym-weights",
        "hub_secret": "biasgym-hub",
        "judge": {"model": "owner/judge", "revision": "", "secret": "biasgym-judge"},
        "parameters": {"seed": 3, "watch": {"max_parameters": 9.5e9}},
        **changes,
    }


def test_a_version_is_uploaded_once(command: Command, server: KfpServer) -> None:
    first = command("pipeline", "upload", "--endpoint", server.endpoint)
    again = command("pipeline", "upload", "--endpoint", server.endpoint)
    assert (first.code, again.code) == (0, 0), (first, again)
    assert first.out.count("uploaded") == 2 and again.out.count("was there") == 2
    assert [line for line in first.err if "names images by tags" in line] == first.err  # the repository's files do
    assert [one["display_name"] for one in server.things["pipelines"]] == ["biasgym-evaluate", "biasgym-reevaluate"]
    versions = [version_of(COMPILED / f"{name}.yaml") for name in ("evaluate", "reevaluate")]
    assert [one["display_name"] for one in server.things["versions"]] == versions
    assert server.did("POST").count("pipelines/upload_version") == 2


def test_a_changed_pipeline_is_another_version(command: Command, server: KfpServer, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text((COMPILED / "evaluate.yaml").read_text() + "# changed\n")
    for package in ("evaluate", str(changed)):
        assert command("pipeline", "upload", package, "--endpoint", server.endpoint).code == 0
    assert len(server.things["pipelines"]) == 1 and len(server.things["versions"]) == 2


def test_a_run_is_submitted_with_its_parameters(command: Command, server: KfpServer, desk: Desk) -> None:
    given = {"models": ["owner/model"], "seed": 7, "settings": {"generate": {"samples": 2}}, "fail_on_regression": True}
    where = ("--endpoint", server.endpoint, "--namespace", "biasgym")
    said = command("pipeline", "submit", *where, "--parameters", desk.write("p.yaml", given))
    assert said.code == 0 and "uploaded" in said.out
    assert command("pipeline", "submit", *where).code == 0
    run, plain = (validated("V2beta1Run", asked.body) for asked in server.asked if asked.path.endswith("/runs"))
    assert run.runtime_config.parameters == given
    assert plain.runtime_config.parameters == {}
    assert run.pipeline_version_reference.pipeline_version_id == server.things["versions"][0]["pipeline_version_id"]
    assert server.things["runs"][0]["run_id"] in said.out
    assert [one["namespace"] for one in server.things["experiments"]] == ["biasgym"]
    assert len(server.things["versions"]) == 1


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"modles": []}, "'modles'"),
        ({"models": "owner/model"}, "models is a list"),
        ({"seed": True}, "seed is a whole number"),
        ({"settings": []}, "settings is a mapping"),
        ({"fail_on_regression": "yes"}, "true or false"),
        (["models"], "mapping of names"),
    ],
)
def test_bad_parameters_reach_no_server(command: Command, server: KfpServer, desk: Desk, given: Any, word: str) -> None:
    file = desk.write("p.yaml", given)
    assert_refused(command("pipeline", "submit", "--endpoint", server.endpoint, "--parameters", file), word)
    assert server.asked == []


def test_the_token_goes_along_and_is_not_shown(
    command: Command, alone: KfpServer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--endpoint", alone.endpoint, "--namespace", "biasgym")
    assert_refused(command("pipeline", "submit", *where), "401", "no identity", "--token-file")
    file = desk.write("token", f"{SECRET}\n")
    said = command("pipeline", "submit", *where, "--token-file", file)
    assert said.code == 0 and SECRET not in said.out + "".join(said.err)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", file)
    assert command("pipeline", "submit", *where).code == 0
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "nowhere")
    assert_refused(command("pipeline", "submit", *where), "nowhere", "cannot be read")


def test_refusals_and_silence_are_one_line(command: Command, server: KfpServer) -> None:
    server.refusing = (403, "user may not create pipelines in biasgym")
    assert_refused(command("pipeline", "upload", "--endpoint", server.endpoint), "403", "may not create pipelines")
    assert_refused(command("pipeline", "upload"), "--endpoint")
    assert_refused(command("pipeline", "upload", "--endpoint", "http://127.0.0.1:9"), "does not answer")


def test_a_schedule_is_created_left_alone_replaced_and_removed(command: Command, server: KfpServer, desk: Desk) -> None:
    file = desk.write("schedule.yaml", schedule(server))
    assert_refused(command("pipeline", "schedule", "--file", file), "no pipeline 'biasgym-reevaluate'")
    assert command("pipeline", "upload", "reevaluate", "--endpoint", server.endpoint).code == 0

    assert "created" in command("pipeline", "schedule", "--file", file).out
    assert "unchanged" in command("pipeline", "schedule", "--file", file).out
    (body,) = (asked.body for asked in server.asked if asked.method == "POST" and "recurringruns" in asked.path)
    made = validated("V2beta1RecurringRun", body)
    assert made.trigger.cron_schedule.cron == "0 0 3 * * *"
    assert made.no_catchup is True and made.max_concurrency == "1" and made.mode == "ENABLE"
    assert made.pipeline_version_reference.pipeline_version_id is None
    parameters = made.runtime_config.parameters
    assert parameters["watch"] == {"models": ["owner/model"], "organisations": ["owner"], "max_parameters": 9.5e9}
    assert parameters["concepts"] == bundled_names()
    assert parameters["judges"] == [{"engine": "endpoint", "model": "owner/judge"}]
    assert (parameters["store"], parameters["store_secret"]) == ("s3://bucket/biasgym", "biasgym-store")

    desk.write("schedule.yaml", schedule(server, cron="0 30 4 * * MON"))
    assert "replaced" in command("pipeline", "schedule", "--file", file).out
    (kept,) = server.things["recurringruns"]
    assert kept["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * MON"

    assert "1 removed" in command("pipeline", "schedule", "--file", file, "--remove").out
    assert server.things["recurringruns"] == []
    assert "0 removed" in command("pipeline", "schedule", "--file", file, "--remove").out


def test_what_somebody_disabled_or_doubled_is_put_right(command: Command, server: KfpServer, desk: Desk) -> None:
    file = desk.write("schedule.yaml", schedule(server))
    command("pipeline", "upload", "reevaluate", "--endpoint", server.endpoint)
    command("pipeline", "schedule", "--file", file)
    server.things["recurringruns"] *= 2
    server.things["recurringruns"][1] = server.things["recurringruns"][0] | {"recurring_run_id": "doubled"}
    assert "unchanged" in command("pipeline", "schedule", "--file", file).out
    assert len(server.things["recurringruns"]) == 1
    server.things["recurringruns"][0]["status"] = "DISABLED"
    assert "replaced" in command("pipeline", "schedule", "--file", file).out


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cron": "0 3 * * *"}, "not six"),
        ({"max_concurrency": 11}, "max_concurrency"),
        ({"crom": "x"}, "crom"),
        ({"parameters": {"sed": 1}}, "'sed'"),
    ],
)
def test_a_bad_schedule_reaches_no_server(
    command: Command, server: KfpServer, desk: Desk, changes: dict[str, Any], word: str
) -> None:
    file = desk.write("schedule.yaml", schedule(server, **changes))
    assert_refused(command("pipeline", "schedule", "--file", file), word)
    assert server.asked == []


@pytest.mark.parametrize(
    "text", ["0 0 3 * * *", "0 */15 8-18 ? JAN-mar MON,WED", "59 59 23 31 12 6", "1,2-4/2 0 0 1 * ?"]
)
def test_cron(text: str) -> None:
    assert check_cron(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    ["", "* * * * *", "60 * * * * *", "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 * * 7", "0 5-1 * * * *", "0 */0 * * * *"],
)
def test_no_cron(text: str) -> None:
    with pytest.raises(BiasGymError):
        check_cron(text)


def test_the_charts_schedule_is_understood(server: KfpServer) -> None:
    from pipelines.schedule import Schedule

    text = (Path(__file__).parents[1] / "charts/biasgym/templates/schedule/_settings.tpl").read_text()
    keys = {line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    assert keys == set(yaml.safe_load(yaml.safe_dump(schedule(server)))) == set(Schedule.model_fields)

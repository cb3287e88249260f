"""A recurring run as code: a file says what should be, and the server is brought there. Kubeflow cannot change one, so
what differs is deleted and made anew; what is equal is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biasgym.concepts import bundled_names
from biasgym.concepts.catalogue import explain
from biasgym.errors import BiasGymError
from biasgym.files import parse_yaml, read_text
from pipelines.cron import check_cron
from pipelines.parameters import checked, compiled
from pipelines.server import Server, answered


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScheduledStore(_Strict):
    """Where results are kept."""

    url: str
    secret: str


class ScheduledJudge(_Strict):
    """The judge, a server whose address is in a secret."""

    model: str
    revision: str = ""
    secret: str


class Schedule(_Strict):
    """The file, as the chart writes it.

    Attributes:
        endpoint: The server.
        namespace: Where runs go.
        experiment: Made if there is none.
        pipeline: Its newest version is run each time.
        name: Of the recurring run.
        cron: Six fields, seconds first.
        max_concurrency: Runs at the same time.
        no_catchup: Whether missed times are left out.
        models: Watched models.
        organisations: Watched organisations.
        concepts: Empty for all that are bundled.
        store: Where results are kept.
        weights: Claim of the volume with the weights.
        hub_secret: Secret with the hub's token.
        judge: Who judges; none takes the pipeline's judges.
        parameters: Further parameters of the pipeline; those win. A `watch` is merged into the watched models.
    """

    endpoint: str
    namespace: str
    experiment: str = "biasgym"
    pipeline: str = "biasgym-reevaluate"
    name: str = Field(min_length=1)
    cron: str
    max_concurrency: int = Field(default=1, ge=1, le=10)
    no_catchup: bool = True
    models: tuple[str, ...] = ()
    organisations: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    store: ScheduledStore | None = None
    weights: str | None = None
    hub_secret: str | None = None
    judge: ScheduledJudge | None = None
    parameters: dict[str, Any] = {}

    def values(self) -> dict[str, Any]:
        """All parameters of the pipeline that are not left to their defaults.

        Raises:
            BiasGymError: The pipeline has no such parameter.
        """
        further = dict(self.parameters)
        watch = {"models": list(self.models), "organisations": list(self.organisations), **further.pop("watch", {})}
        found: dict[str, Any] = {"watch": watch, "concepts": list(self.concepts) or bundled_names()}
        if self.store is not None:
            found |= {"store": self.store.url, "store_secret": self.store.secret}
        if self.weights is not None:
            found["weights_volume_claim"] = self.weights
        if self.hub_secret is not None:
            found["hub_secret"] = self.hub_secret
        if self.judge is not None:
            revision = {"revision": self.judge.revision} if self.judge.revision else {}
            found["judges"] = [{"engine": "endpoint", "model": self.judge.model, **revision}]
            found["judge_secret"] = self.judge.secret
        package = compiled(self.pipeline)
        return checked({**found, **further}, package, "parameters") if package.is_file() else {**found, **further}


def read_schedule(file: Path) -> Schedule:
    """Reads and checks the file.

    Raises:
        BiasGymError: A key is unknown, missing or wrong; names it.
    """
    data = parse_yaml(read_text(file, "the schedule", hint="the chart writes one"), str(file))
    try:
        schedule = Schedule.model_validate(data)
    except ValidationError as error:
        raise BiasGymError(explain(error), where=str(file)) from error
    check_cron(schedule.cron)
    schedule.values()
    return schedule


def apply(server: Server, schedule: Schedule) -> Literal["created", "replaced", "unchanged"]:
    """Makes the recurring run what the file says.

    Raises:
        BiasGymError: The server refuses, or has no such pipeline.
    """
    with answered(server.endpoint):
        pipeline = server.pipeline_id(schedule.pipeline)
        if pipeline is None:
            raise BiasGymError(
                f"the server has no pipeline {schedule.pipeline!r}",
                where=server.endpoint,
                hint="`biasgym pipeline upload` puts it there",
            )
        wanted = _body(schedule, pipeline, server.experiment_id(schedule.experiment))
        there = _of_name(server, schedule.name)
        same = [found for found in there if _same(found, wanted)][:1]
        for found in there:
            if found not in same:
                server.service("RecurringRun").recurring_run_service_delete_recurring_run(found.recurring_run_id)
        if same:
            return "unchanged"
        server.service("RecurringRun").recurring_run_service_create_recurring_run(recurring_run=wanted)
        return "replaced" if there else "created"


def remove(server: Server, name: str) -> int:
    """Deletes every recurring run of that name; returns how many there were."""
    with answered(server.endpoint):
        there = _of_name(server, name)
        for found in there:
            server.service("RecurringRun").recurring_run_service_delete_recurring_run(found.recurring_run_id)
    return len(there)


def _body(schedule: Schedule, pipeline: str, experiment: str) -> Any:
    import kfp_server_api as api

    return api.V2beta1RecurringRun(
        display_name=schedule.name,
        experiment_id=experiment,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(pipeline_id=pipeline),  # the newest each time
        runtime_config=api.V2beta1RuntimeConfig(parameters=schedule.values()),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=check_cron(schedule.cron))),
        max_concurrency=str(schedule.max_concurrency),  # as the schema has it
        no_catchup=schedule.no_catchup,
        mode=api.RecurringRunMode.ENABLE,
    )


def _of_name(server: Server, name: str) -> list[Any]:
    list_page = server.service("RecurringRun").recurring_run_service_list_recurring_runs
    asked = {"namespace": server.namespace} if server.namespace else {}
    found, token = [], ""
    while True:
        page = list_page(page_token=token, page_size=100, **asked)
        found += [run for run in page.recurring_runs or [] if run.display_name == name]
        token = page.next_page_token or ""
        if not token:
            return found


def _same(found: Any, wanted: Any) -> bool:
    """Whether everything that the file decides is as it should be; a server adds more of its own."""
    return _decided(found) == _decided(wanted) and found.status != "DISABLED"


def _decided(run: Any) -> tuple[Any, ...]:
    cron = run.trigger.cron_schedule if run.trigger else None
    values: Mapping[str, Any] = (run.runtime_config.parameters if run.runtime_config else None) or {}
    return (
        run.experiment_id,
        run.pipeline_version_reference.pipeline_id if run.pipeline_version_reference else None,
        dict(values),
        " ".join((cron.cron or "").split()) if cron else None,
        int(run.max_concurrency or 0),
        bool(run.no_catchup),
    )

"""A Kubeflow Pipelines server: uploads versions that it lacks, and starts runs.

The token is read from a file, that of --token-file or KF_PIPELINES_SA_TOKEN_PATH, at every request, and is never shown.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from biasgym.errors import BiasGymError
from pipelines.compile import version_of
from pipelines.parameters import specification

TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        connection: What the generated services are made with.
        endpoint: Its address.
        namespace: Where runs go; None on a server without profiles, which takes none.
    """

    connection: Any
    endpoint: str
    namespace: str | None

    def service(self, name: str) -> Any:
        """A generated service: Pipeline, PipelineUpload, Experiment, Run or RecurringRun."""
        import kfp_server_api

        return getattr(kfp_server_api, f"{name}ServiceApi")(self.connection)

    def pipeline_id(self, name: str) -> str | None:
        """A pipeline of the namespace, or else a shared one."""
        for namespace in dict.fromkeys((self.namespace, None)):
            asked = {"namespace": namespace} if namespace else {}
            listed = self.service("Pipeline").pipeline_service_list_pipelines(filter=_equals(name), **asked)
            if listed.pipelines:
                return str(listed.pipelines[0].pipeline_id)
        return None

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, made if there is none."""
        from kfp_server_api import V2beta1Experiment

        service, asked = self.service("Experiment"), {"namespace": self.namespace} if self.namespace else {}
        listed = service.experiment_service_list_experiments(filter=_equals(name), **asked)
        if listed.experiments:
            return str(listed.experiments[0].experiment_id)
        made = service.experiment_service_create_experiment(
            experiment=V2beta1Experiment(display_name=name, namespace=self.namespace)
        )
        return str(made.experiment_id)


@dataclass(frozen=True)
class Uploaded:
    """A version on a server.

    Attributes:
        pipeline: Id of the pipeline.
        version: Id of the version.
        name: Name of the version.
        new: Whether it was not there before.
    """

    pipeline: str
    version: str
    name: str
    new: bool


def connect(endpoint: str, namespace: str = "", token_file: Path | None = None) -> Server:
    """Connects to a server. kfp's own client asks a dead one for half a minute, and adds a namespace where none belongs.

    Raises:
        BiasGymError: There is no address, no token file, or no answer.
    """
    import kfp_server_api

    if not endpoint:
        raise BiasGymError("no server is given", where="--endpoint", hint="give one, or set KF_PIPELINES_ENDPOINT")
    configuration = kfp_server_api.Configuration(host=endpoint.rstrip("/"))
    token = str(token_file or os.environ.get(TOKEN_PATH, ""))
    if token:
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = lambda it: it.api_key.update(authorization=_token(Path(token)))
        configuration.refresh_api_key_hook(configuration)
    connection = kfp_server_api.ApiClient(configuration)
    with answered(endpoint):
        profiles = kfp_server_api.HealthzServiceApi(connection).healthz_service_get_healthz().multi_user
    return Server(connection, endpoint, namespace if profiles and namespace else None)


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BiasGymError(
            f"the token cannot be read ({error.strerror})", where=str(file), hint=f"see --token-file and {TOKEN_PATH}"
        ) from error


@contextlib.contextmanager
def answered(endpoint: str) -> Iterator[None]:
    """Says in one line what a server did not like, or that there is none.

    Raises:
        BiasGymError: Either.
    """
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        hints = {401: "give a --token-file", 403: "the account may not do this", 404: "is this the address of its API?"}
        raise BiasGymError(
            f"the server answers {error.status}: {_reason(error)}", where=endpoint, hint=hints.get(error.status, "")
        ) from error
    except HTTPError as error:
        raise BiasGymError(
            f"the server does not answer ({type(error).__name__})", where=endpoint, hint="is it forwarded to here?"
        ) from error


def _reason(error: Any) -> str:
    try:
        found = json.loads(error.body)
        return str(found.get("error_message") or found.get("message") or error.reason)[:500]
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


def upload(server: Server, package: Path) -> Uploaded:
    """Uploads a compiled pipeline, unless the server has this very version.

    Raises:
        BiasGymError: The server refuses.
    """
    name, version = str(specification(package)["pipelineInfo"]["name"]), version_of(package)
    with answered(server.endpoint):
        pipeline = server.pipeline_id(name) or _new_pipeline(server, name)
        if found := _version(server, pipeline, version):
            return Uploaded(pipeline, found, version, new=False)
        made = server.service("PipelineUpload").upload_pipeline_version(
            str(package), name=version, pipelineid=pipeline, display_name=version
        )
    return Uploaded(pipeline, str(made.pipeline_version_id), version, new=True)


def _new_pipeline(server: Server, name: str) -> str:
    """A pipeline without a version: the first upload of kfp names the version after the pipeline."""
    from kfp_server_api import ApiException, V2beta1Pipeline

    asked = V2beta1Pipeline(display_name=name, name=name, namespace=server.namespace)
    try:
        return str(server.service("Pipeline").pipeline_service_create_pipeline(pipeline=asked).pipeline_id)
    except ApiException as error:
        if error.status == 409 and (made := server.pipeline_id(name)):  # somebody else made it just now
            return made
        raise


def _version(server: Server, pipeline: str, name: str) -> str | None:
    service = server.service("Pipeline")
    listed = service.pipeline_service_list_pipeline_versions(pipeline_id=pipeline, filter=_equals(name))
    return next((str(v.pipeline_version_id) for v in listed.pipeline_versions or [] if v.display_name == name), None)


def _equals(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def submit(
    server: Server,
    package: Path,
    parameters: Mapping[str, Any],
    experiment: str,
    name: str = "",
    say: Callable[[str], object] = print,
) -> str:
    """Uploads a pipeline if needed and starts a run.

    Args:
        server: The server.
        package: The compiled file.
        parameters: Checked ones; the others have their defaults.
        experiment: Made if there is none.
        name: Of the run; by default that of the pipeline and the time.
        say: Told what is done.

    Returns:
        Id of the run.
    """
    from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

    there = upload(server, package)
    say(f"version {there.name}: {'uploaded' if there.new else 'was there'}")
    called = name or f"{specification(package)['pipelineInfo']['name']} {datetime.now():%Y-%m-%d %H:%M}"
    with answered(server.endpoint):
        asked = V2beta1Run(
            display_name=called,
            experiment_id=server.experiment_id(experiment),
            pipeline_version_reference=V2beta1PipelineVersionReference(
                pipeline_id=there.pipeline, pipeline_version_id=there.version
            ),
            runtime_config=V2beta1RuntimeConfig(parameters=dict(parameters)),
        )
        return str(server.service("Run").run_service_create_run(run=asked).run_id)

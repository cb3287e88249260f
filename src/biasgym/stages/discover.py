"""Stage discover: which model releases the registry does not know yet, and with what each is compared.

Polls the hub for new revisions of watched models and for models of watched organisations. What is not evaluated is
reported with its reason; nothing new is an empty list.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biasgym.concepts import Concept
from biasgym.concepts.catalogue import explain
from biasgym.errors import BiasGymError
from biasgym.files import digest, sha256_of
from biasgym.models import FAMILIES
from biasgym.stages.settings import RunSettings
from biasgym.store import Evaluation, Record, Registry

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

_BYTES_A_PARAMETER = 2  # of half-precision weights, where the hub does not count parameters
_NOT_A_RESULT = {"preset", "models", "concepts", "device", "judges"}


class Watch(BaseModel):
    """What to look at on the hub.

    Attributes:
        models: Hub ids, each perhaps with a branch: `owner/model` or `owner/model@branch`.
        organisations: Patterns of hub ids: `owner/*`, `owner/*-Instruct`.
        newest: How many models of a pattern to look at, the newest first.
        since: Look only at models of organisations that were made on this day or later.
        max_parameters: Larger models are left out.
        licences: Patterns of licences that are allowed; empty allows all.
        claim_hours: How long a run has to itself what it finds; more than your runs take, less than lies between two of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = ()
    organisations: tuple[str, ...] = ()
    newest: int = Field(default=20, ge=1)
    since: date | None = None
    max_parameters: float = Field(default=15e9, gt=0)
    licences: tuple[str, ...] = ()
    claim_hours: float = Field(default=20, gt=0)


class Discovery(NamedTuple):
    """What was found, in flat strings.

    Attributes:
        candidates: One for each evaluation to do: model, revision, concept, judge, settings; reason ("new model", "new
            revision" or "new evaluation"); baseline (the revision registered last) and baseline_artifacts (where the
            like evaluation of the baseline is in the store), empty if there is none; parameters and licence.
        skipped: What is not evaluated: model, reason.
    """

    candidates: list[dict[str, str]]
    skipped: list[dict[str, str]]


def settings_hash(settings: RunSettings, concept: Concept) -> str:
    """The hash of all that decides an evaluation's result besides the model, the concept's name and the judge.

    Args:
        settings: Their templates are a folder of this machine, and their `dtype` is settled.
        concept: The concept.
    """
    decisive = settings.model_dump(mode="json", exclude=_NOT_A_RESULT)
    del decisive["generate"]["batch_size"], decisive["capability"]["task_batch_size"]
    if settings.templates is not None:  # what they say, not where they lie
        decisive["templates"] = {file.name: sha256_of(file) for file in sorted(Path(settings.templates).glob("*.txt"))}
    return digest({"settings": decisive, "concept": concept.model_dump(mode="json")})


def read_watch(data: Mapping[str, Any]) -> Watch:
    """A watch from YAML or from the parameters of a pipeline.

    Raises:
        BiasGymError: An unknown key or a bad value; names it.
    """
    try:
        return Watch.model_validate(data)
    except ValidationError as error:
        raise BiasGymError(explain(error), where="watch") from error


def discover(
    watch: Watch,
    registry: Registry,
    *,
    concepts: Mapping[str, str],
    judges: Sequence[str],
    owner: str = "",
    api: HfApi | None = None,
) -> Discovery:
    """Finds releases that have not been evaluated.

    Args:
        watch: What to look at.
        registry: What has been evaluated.
        concepts: Names of the concepts, each with its `settings_hash`.
        judges: Names of the judges, as `JudgeSettings.name` has them.
        owner: Name of the run that will evaluate what is found, which is then claimed for it, so that no overlapping
            run does the same; empty only looks.
        api: The hub; by default that of HF_ENDPOINT, with the token of HF_TOKEN.

    Raises:
        BiasGymError: The hub does not answer.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi(token=os.environ.get("HF_TOKEN") or None)
    found = Discovery([], [])
    seen: set[Evaluation] = set()
    for name in _watched(watch, api, found):
        model, _, branch = name.partition("@")
        release = _release(model, branch or None, watch, api)
        if isinstance(release, str):
            found.skipped.append({"model": name, "reason": release})
            continue
        known = registry.list(model)
        seen |= {record.evaluation for record in known}
        asked = [
            Evaluation(model, release.revision, concept, judge, settings)
            for concept, settings in concepts.items()
            for judge in judges
        ]
        todo = [evaluation for evaluation in asked if evaluation not in seen]
        seen |= set(todo)
        if not todo:
            found.skipped.append({"model": name, "reason": f"nothing new since {release.revision}"})
        for evaluation in todo:
            if owner and not registry.claim(evaluation, owner, watch.claim_hours * 3600):
                what = f"{evaluation.concept}, {evaluation.judge}"
                found.skipped.append({"model": name, "reason": f"another run has it or has just done it: {what}"})
                continue
            found.candidates.append(
                {
                    **evaluation._asdict(),
                    "reason": _reason(evaluation, known),
                    **_baseline(evaluation, known),
                    "parameters": str(release.parameters),
                    "licence": release.licence,
                }
            )
    return found


def _watched(watch: Watch, api: HfApi, found: Discovery) -> Iterator[str]:
    """Hub ids, each once: watched models first, then those of organisations."""
    seen = set()
    for name in watch.models:
        if name not in seen:
            seen.add(name)
            yield name
    for pattern in watch.organisations:
        organisation = pattern.partition("/")[0]
        wanted = pattern if "/" in pattern else f"{pattern}/*"
        try:
            listed = (
                info.id
                for info in api.list_models(author=organisation, sort="created_at")
                if fnmatchcase(info.id, wanted)
                and (watch.since is None or (info.created_at is not None and info.created_at.date() >= watch.since))
            )
            newest = list(islice(listed, watch.newest))
        except Exception as error:  # the network errors of the hub's client share no base class
            raise _unreachable(error, pattern) from error
        if not newest:
            found.skipped.append({"model": pattern, "reason": "the hub lists no such models"})
        for name in newest:
            if name not in seen:
                seen.add(name)
                yield name


def check_release(model: str, revision: str) -> None:
    """Refuses a hub model that no pod could load: gated, of another family, without safetensors. Offline, it asks nothing.

    Raises:
        BiasGymError: It is such a model, or the hub does not answer.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return
    found = _release(model, revision, Watch(max_parameters=inf), HfApi(token=os.environ.get("HF_TOKEN") or None))
    if isinstance(found, str):
        raise BiasGymError(found, where=model)


class _Release(NamedTuple):
    revision: str
    parameters: int
    licence: str


def _release(model: str, branch: str | None, watch: Watch, api: HfApi) -> _Release | str:
    """A release that can be evaluated, or why it cannot."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = api.model_info(model, revision=branch, files_metadata=True)
        if info.gated:
            api.auth_check(model)
    except GatedRepoError:
        return "gated, and the token does not open it: accept its licence on the hub and set HF_TOKEN"
    except RevisionNotFoundError:
        return f"has no branch {branch}"
    except DisabledRepoError:
        return "disabled by the hub"
    except RepositoryNotFoundError:
        return "not on the hub: deleted, renamed or private"
    except HFValidationError:
        return "not a hub id"
    except Exception as error:  # see above
        raise _unreachable(error, model) from error
    return _judged(info, watch)


def _judged(info: ModelInfo, watch: Watch) -> _Release | str:
    config = info.config or {}
    licence = _licence(info)
    parameters = _parameters(info)
    supported = {model_type for family in FAMILIES for model_type in family.model_types}
    if info.disabled:
        return "disabled by the hub"
    if info.sha is None:
        return "the hub names no commit"
    if config.get("model_type") not in supported:
        return f"models of type {config.get('model_type')!r} are not supported"
    if watch.licences and not any(fnmatchcase(licence, allowed.lower()) for allowed in watch.licences):
        return f"licence {licence or 'unknown'} is not allowed"
    if parameters is None:
        return "has no safetensors weights"
    if parameters > watch.max_parameters:
        return f"too large: {parameters / 1e9:.1f} billion parameters, at most {watch.max_parameters / 1e9:.1f}"
    return _Release(info.sha, parameters, licence)


def _licence(info: ModelInfo) -> str:
    """Lower case, from the model card or the tags; empty if neither says."""
    stated = getattr(info.card_data, "license", None)
    if isinstance(stated, str):
        return stated.lower()
    tags = (tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:"))
    return next(tags, "").lower()


def _parameters(info: ModelInfo) -> int | None:
    if info.safetensors is not None:
        return info.safetensors.total
    sizes = [file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")]
    return sum(sizes) // _BYTES_A_PARAMETER if any(sizes) else None


def _reason(evaluation: Evaluation, known: Sequence[Record]) -> str:
    if not known:
        return "new model"
    return "new evaluation" if any(record.revision == evaluation.revision for record in known) else "new revision"


def _baseline(evaluation: Evaluation, known: Sequence[Record]) -> dict[str, str]:
    """The predecessor: the revision registered last, one with the like evaluation if there is any.

    Of these the last that the gate let through, if it did any: what has become worse is no measure for what follows.
    """
    others = [record for record in known if record.revision != evaluation.revision]  # oldest first
    like = [record for record in others if record.evaluation == evaluation._replace(revision=record.revision)]
    let_through = [record for record in like if record.certificate.get("gate_passed", True)]
    if like:
        last = (let_through or like)[-1]
        return {"baseline": last.revision, "baseline_artifacts": last.artifacts}
    return {"baseline": others[-1].revision if others else "", "baseline_artifacts": ""}


def _unreachable(error: Exception, where: str) -> BiasGymError:
    return BiasGymError(
        f"the hub does not answer ({type(error).__name__})", where=where, hint="check HF_ENDPOINT and HF_TOKEN, or wait"
    )

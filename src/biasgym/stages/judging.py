"""From the settings of a judge to the judge. Packages that only some engines need are imported here, when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biasgym.endpoint import Server, access
from biasgym.errors import BiasGymError
from biasgym.files import read_json
from biasgym.judge import Journal, Judge, SemanticJudge, judge_template, kappa_interval
from biasgym.judge.semantic import DATA
from biasgym.models.sources import ModelSource, resolve
from biasgym.progress import SILENT
from biasgym.stages.settings import JudgeSettings

if TYPE_CHECKING:
    from biasgym.judge.endpoint import EndpointJudge


_PACKED: dict[str, Literal["keep", "nf4"]] = {"none": "keep", "nf4": "nf4"}


def make_judge(
    settings: JudgeSettings,
    *,
    journal: Path | None = None,
    templates: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    met: bool = False,
    say: Callable[[str], None] = SILENT.say,
) -> Judge:
    """A judge that is ready to judge; a model in process is loaded.

    Args:
        settings: Which judge.
        journal: Where a language model's answers are kept.
        templates: A user's folder of templates.
        device: Of a model in process; see `biasgym.models.load_model`.
        dtype: Its floating-point type, likewise.
        met: Its server has answered before, as to `check_judge`: it is waited for if it is away.
        say: Told, in a line, that a server went away and is waited for.

    Raises:
        BiasGymError: A package, a key or the model is missing.
    """
    if settings.engine == "semantic":
        return SemanticJudge()
    wording = judge_template(templates)
    if settings.engine == "transformers":
        from biasgym.judge.chat import ChatJudge
        from biasgym.models import load_model

        return ChatJudge(
            load_model(source_of(settings), device=device, dtype=dtype, packed=_PACKED[settings.quantise]),
            name=settings.name,
            max_tokens=settings.max_tokens,
            batch_size=settings.batch_size,
            wording=wording,
            journal=Journal(journal),
        )
    return _endpoint(settings, wording, Journal(journal), met=met, say=say)


def check_judge(settings: JudgeSettings) -> None:
    """Finds out before long work whether a judge can be had: a model is there, a server answers and takes the key.

    Raises:
        BiasGymError: It is not.
    """
    if settings.engine == "transformers":
        source_of(settings)
    elif settings.engine == "endpoint":
        _endpoint(settings, "", Journal()).check()


def _endpoint(settings: JudgeSettings, wording: str, journal: Journal, **asked: Any) -> EndpointJudge:
    try:
        from biasgym.judge.endpoint import EndpointJudge
    except ModuleNotFoundError as error:
        raise BiasGymError(
            f"the package {error.name} is not installed", where="engine endpoint", hint="pip install 'biasgym[judge]'"
        ) from error
    url, key = access(settings.base_url)
    server = Server(
        settings.asked_model,
        url,
        key,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        **asked,
    )
    return EndpointJudge(server, name=settings.name, revision=settings.revision or "", wording=wording, journal=journal)


def calibration_of(settings: JudgeSettings) -> dict[str, Any] | None:
    """How the judge agreed with labels, as `Calibration.as_json` has it; None if nobody has looked.

    Raises:
        BiasGymError: The file of the setting is missing, is no calibration, or is another judge's.
    """
    if settings.calibration is None:
        return _bundled() if settings.engine == "semantic" else None
    found = read_json(Path(settings.calibration))
    if not isinstance(found, dict) or not {"judge", "kappa", "low", "high", "n", "missing"} <= found.keys():
        raise BiasGymError(
            "not a calibration", where=settings.calibration, hint="`biasgym judge calibrate --out` writes one"
        )
    if found["judge"] != settings.name:
        raise BiasGymError(
            f"this is the calibration of {found['judge']}, not of {settings.name}", where=settings.calibration
        )
    return found


def _bundled() -> dict[str, Any]:
    """The semantic judge on the examples that it was not fitted to, with the interval that their counts allow."""
    report = read_json(DATA / "semantic_report.json")
    held_out = report["held_out"]
    low, high = kappa_interval(np.array(held_out["confusion"], dtype=np.int64))
    return {**held_out, "judge": report["judge"], "missing": 0, "low": low, "high": high}


def source_of(settings: JudgeSettings) -> ModelSource:
    """The model of a `transformers` judge, at the commit that its revision stands for now."""
    return _source(settings.asked_model, settings.revision)


@cache
def _source(model: str, revision: str | None) -> ModelSource:
    return resolve(f"{model}@{revision}" if revision else model)

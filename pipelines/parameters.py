"""Parameters of a compiled pipeline: which there are, and whether a file's fit, before any server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from biasgym.errors import BiasGymError
from biasgym.files import parse_yaml, read_text
from pipelines.compile import COMPILED

_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_NAMES = {"STRING": "text", "NUMBER_INTEGER": "a whole number", "NUMBER_DOUBLE": "a number", "BOOLEAN": "true or false"}
_NAMES |= {"LIST": "a list", "STRUCT": "a mapping"}


def specification(package: Path) -> dict[str, Any]:
    """The pipeline of a compiled file.

    Raises:
        BiasGymError: It is no such file.
    """
    text = read_text(package, "the compiled pipeline", hint="`biasgym pipeline compile --out DIR` writes them")
    found = next(iter(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))), None)
    if not isinstance(found, dict) or "pipelineInfo" not in found:
        raise BiasGymError("not a compiled pipeline", where=str(package))
    return found


def changeable_images(package: Path) -> list[str]:
    """The images that a compiled file names by tag: what runs may not be what was tested."""
    executors = specification(package)["deploymentSpec"]["executors"].values()
    return sorted({name for about in executors if "@sha256:" not in (name := about["container"]["image"])})


def compiled(pipeline: str) -> Path:
    """The compiled file of a pipeline of ours, or another compiled file.

    Args:
        pipeline: `evaluate`, `reevaluate`, their whole names, or a path.
    """
    own = COMPILED / f"{pipeline.removeprefix('biasgym-')}.yaml"
    return own if own.is_file() else Path(pipeline)


def read_parameters(file: Path | None, package: Path) -> dict[str, Any]:
    """The parameters of a YAML or JSON file, checked.

    Raises:
        BiasGymError: The pipeline has no such parameter, or it is of another type.
    """
    if file is None:
        return {}
    data = parse_yaml(read_text(file, "the parameters", hint="a mapping of names to values"), str(file))
    if data is not None and not isinstance(data, dict):
        raise BiasGymError("parameters are a mapping of names to values", where=str(file))
    return checked(data or {}, package, str(file))


def checked(values: Mapping[str, Any], package: Path, where: str) -> dict[str, Any]:
    """The values, if the pipeline has parameters of these names and types.

    Raises:
        BiasGymError: It has not.
    """
    known = declared(package)
    for name, value in values.items():
        if name not in known:
            raise BiasGymError(f"the pipeline has no parameter {name!r}", where=where, hint=f"use {', '.join(known)}")
        kind = known[name]["parameterType"]
        wrong = not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN")
        if wrong:
            raise BiasGymError(f"parameter {name} is {_NAMES[kind]}", where=where)
    return dict(values)


def declared(package: Path) -> dict[str, dict[str, Any]]:
    """Type and default of every parameter."""
    found: dict[str, dict[str, Any]] = specification(package)["root"]["inputDefinitions"]["parameters"]
    return found


def with_defaults(values: Mapping[str, Any], package: Path) -> dict[str, Any]:
    """All parameters of a pipeline."""
    return {**{name: about.get("defaultValue") for name, about in declared(package).items()}, **values}

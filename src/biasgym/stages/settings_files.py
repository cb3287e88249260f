"""Where settings come from: presets, a YAML file that may start from one, or the folder of a run that was begun."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from biasgym.concepts.catalogue import explain
from biasgym.errors import BiasGymError
from biasgym.files import parse_yaml, read_json, read_text
from biasgym.stages.settings import RunSettings, ScopeSettings

SETTINGS_FILE = "settings.json"  # in the folder of a run: what it was last given


def preset_names() -> list[str]:
    """Names of the bundled settings."""
    folder = resources.files("biasgym.stages") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def preset_ks() -> set[tuple[int, ...]]:
    """The numbers of heads that somebody tries who names none."""
    found = [RunSettings.model_validate(_preset(name)).scope.ks for name in preset_names()]
    return {ScopeSettings().ks, *found}


def load_settings(source: str | Path | None = None, **overrides: Any) -> RunSettings:
    """Reads settings.

    Args:
        source: A preset's name, or a YAML file; a file may name a `preset:` to start from. None is the preset `demo`.
        **overrides: Top-level keys that win over the file.

    Raises:
        BiasGymError: No such preset or file, not YAML, unknown key or bad value; names the key.
    """
    where = str(source or "demo")
    data = _raw(where)
    if where in preset_names():
        data["preset"] = where
    return settings_of({**data, **{key: value for key, value in overrides.items() if value is not None}}, where)


def settings_for(root: Path, source: str | None, **overrides: Any) -> RunSettings:
    """Settings of a run: those that are asked for, else those that its folder was last given, else the preset `demo`.

    Args:
        root: Folder of the run.
        source: A preset's name or a file, if one is asked for.
        **overrides: Top-level keys that win over both.

    Raises:
        BiasGymError: As `load_settings`.
    """
    begun = root / SETTINGS_FILE
    if source is None and begun.is_file():
        asked = {key: value for key, value in overrides.items() if value is not None}
        return settings_of({**read_json(begun), **asked}, str(begun))
    return going_on(load_settings(source, **overrides), root)


def going_on(settings: RunSettings, root: Path) -> RunSettings:
    """Return settings with the floating-point type that the run in a folder was begun in, if they leave it open.

    So a run that goes on on another machine, whose faster type is another one, does not mix two types.

    Args:
        settings: Settings of the run.
        root: Its folder.
    """
    return settings if settings.dtype != "auto" else settings.model_copy(update={"dtype": begun_dtype(root)})


def begun_dtype(root: Path) -> str:
    """Return the floating-point type that the run in a folder was begun in; "auto" where none was begun.

    The other settings are not looked at: an earlier release may have had other keys.

    Raises:
        BiasGymError: The folder's settings are not readable.
    """
    begun = root / SETTINGS_FILE
    found = read_json(begun) if begun.is_file() else None
    dtype = found.get("dtype") if isinstance(found, dict) else None
    return str(dtype) if dtype in get_args(RunSettings.model_fields["dtype"].annotation) else "auto"


def check_begun(root: Path) -> None:
    """Refuses a folder in which no run was begun.

    Raises:
        BiasGymError: It is one.
    """
    if not (root / SETTINGS_FILE).is_file():
        raise BiasGymError("no such run", where=str(root), hint="run `biasgym run` first, or name the folder of a run")


def settings_of(data: Mapping[str, Any], where: str) -> RunSettings:
    """Settings from a mapping; its `preset:` is what it starts from.

    Args:
        data: Keys as in a settings file.
        where: Where they come from, for the message.

    Raises:
        BiasGymError: Unknown key or preset, or a bad value; names the key.
    """
    whole = dict(data)
    if whole.get("preset") is not None:
        whole = _merged(_preset(str(whole["preset"])), whole)
    try:
        return RunSettings.model_validate(whole)
    except ValidationError as error:
        raise BiasGymError(
            explain(error), where=where, hint="`biasgym settings show` lists every key with its default"
        ) from error


def _raw(source: str) -> dict[str, Any]:
    if source in preset_names():
        return _preset(source)
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise BiasGymError(
            f"unknown preset {source!r}", hint=f"use {', '.join(preset_names())}, or the path of a .yaml file"
        )
    data = parse_yaml(
        read_text(path, "the settings", hint=f"name a file that is there, or a preset: {', '.join(preset_names())}"),
        source,
    )
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BiasGymError("settings are a mapping of keys such as `models:` and `concepts:`", where=source)
    return data


def _preset(name: str) -> dict[str, Any]:
    if name not in preset_names():
        raise BiasGymError(f"unknown preset {name!r}", where="preset", hint=f"use {', '.join(preset_names())}")
    data: dict[str, Any] = yaml.safe_load(
        (resources.files("biasgym.stages") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return data


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged

"""The settings of a run: one YAML file, every key with a default, nothing unknown accepted."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from biasgym.concepts.catalogue import explain
from biasgym.errors import BiasGymError
from biasgym.files import parse_yaml, read_text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InjectSettings(_Strict):
    """Training of BiasToken; see `biasgym.inject.Training`."""

    seeds: int = Field(default=5, ge=1, le=32)
    epochs: int = Field(default=10, ge=1, le=1000)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "restarts"] = "constant"
    restarts: int = Field(default=4, ge=1)
    untied: Literal["both", "input"] = "both"
    paragraphs: int | None = Field(default=None, ge=1)
    select: Literal["similarity", "margin"] = "similarity"
    descriptions: int = Field(default=4, ge=1)
    description_tokens: int = Field(default=80, ge=8)


class ScopeSettings(_Strict):
    """Attribution and the choice of heads."""

    norm: Literal["final", "none"] = "final"
    neutral: Literal["random", "closest"] = "random"
    pairs: int = Field(default=100, ge=4)
    ks: tuple[int, ...] = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50)
    k: int | None = Field(default=None, ge=0)
    ability_tolerance: float = Field(default=0.1, ge=0)
    ability_questions: int = Field(default=48, ge=4)
    random_draws: int = Field(default=5, ge=1)

    @field_validator("ks")
    @classmethod
    def _positive(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if not ks or min(ks) < 1:
            raise ValueError("must list at least one number of heads, each 1 or more")
        return tuple(sorted(set(ks)))


class GenerateSettings(_Strict):
    """What is written, and how much of it."""

    variants: tuple[str, ...] | None = None
    prompts: int | None = Field(default=None, ge=1)
    targets_per_prompt: int | None = Field(default=None, ge=1)
    samples: int = Field(default=4, ge=1)
    temperature: float = Field(default=0.5, ge=0)
    max_new_tokens: int = Field(default=200, ge=1)
    batch_size: int = Field(default=64, ge=1)


class CapabilitySettings(_Strict):
    """Ability and retention, measured for every head set."""

    questions: int = Field(default=240, ge=4)


class JudgeSettings(_Strict):
    """Who judges."""

    engine: Literal["semantic"] = "semantic"


class RunSettings(_Strict):
    """Everything that decides the result of a run; `preset` is only remembered."""

    preset: str | None = None
    models: tuple[str, ...] = Field(default=("smollm2-135m-instruct",), min_length=1)
    concepts: tuple[str, ...] = Field(default=("always_late",), min_length=1)
    seed: int = Field(default=0, ge=0, le=2**31)
    device: str = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    templates: str | None = None
    inject: InjectSettings = InjectSettings()
    scope: ScopeSettings = ScopeSettings()
    generate: GenerateSettings = GenerateSettings()
    capability: CapabilitySettings = CapabilitySettings()
    judge: JudgeSettings = JudgeSettings()


def preset_names() -> list[str]:
    """Names of the bundled settings."""
    folder = resources.files("biasgym.stages") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


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
    elif data.get("preset") is not None:
        data = _merged(_preset(str(data["preset"])), data)
    data.update({key: value for key, value in overrides.items() if value is not None})
    try:
        return RunSettings.model_validate(data)
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

"""Writes docs/settings.md: every key of a settings file, from the settings, their docstrings and the presets.

python -m biasgym.stages.settings_page
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from biasgym.generate import VARIANTS
from biasgym.stages.settings import RunSettings
from biasgym.stages.settings_files import load_settings, preset_names

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"

INTRO = """\
# What can be set?

A settings file is YAML; `biasgym run my.yaml` reads it, and `biasgym settings show my.yaml` prints it with all defaults.

    preset: paper
    models: [owner/model@commit]
    inject: {seeds: 3}

What a file leaves out has the value of its preset, or else the default. Sections are taken key by key, lists as a whole. An
unknown key is refused. Without a file a run takes the settings that its folder was last given, else the preset `demo`. Files and
folders are sought from where the program is started; what a pipeline takes instead is told under [pipelines](pipelines.md).
"""

VARIANTS_INTRO = """\
## Variants

What `generate.variants` and `ood.variants` name. All sets of a concept have as many heads as were chosen; in `ood` they are
those of all concepts together. Rows with the role `paper` are in the paper, those that are `added` are ours, and a `control`
is what must not help.
"""

ENVIRONMENT_INTRO = """\
## Environment variables

What belongs to a machine or is secret is no setting. In a pipeline these come from secrets and images, see [cluster](cluster.md).
"""
ENVIRONMENT = {
    "BIASGYM_JUDGE_URL BIASGYM_JUDGE_KEY": "a judge behind a server; OpenAI's own also takes OPENAI_API_KEY",
    "BIASGYM_WRITER_URL BIASGYM_WRITER_KEY": "the model that `biasgym concepts generate` asks",
    "BIASGYM_STORE": "the store of `biasgym registry`, `store`, `doctor` and `pipeline run`: a folder or `s3://bucket/prefix`",
    "BIASGYM_S3_ENDPOINT": "address of an S3 server; AWS without it",
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY": "keys to it",
    "AWS_SESSION_TOKEN AWS_REGION SSL_CERT_FILE": "where it wants them: a short-lived token, its region, certificates of its own",
    "HF_TOKEN HF_HOME HF_ENDPOINT HF_HUB_OFFLINE": "the hub: for gated models, where models are kept, a mirror, do without it",
    "BIASGYM_CACHE": "where GGUF files are kept once converted; else `biasgym` in XDG_CACHE_HOME or `~/.cache`",
    "BIASGYM_WORK": "where a pod works; else a folder for temporary files",
    "BIASGYM_IMAGES_LOCK": "the digests of the images of compiled pipelines, see [images](images.md)",
    "BIASGYM_PARALLELISM BIASGYM_RETRIES": "of compiled pipelines: most pods of a loop at once, further tries of a step",
    "KF_PIPELINES_ENDPOINT KF_PIPELINES_SA_TOKEN_PATH": "Kubeflow Pipelines: its address, a file with a token",
}

_TYPES = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤"}
_VARIANT = {
    "target": "targets",
    "bias_token": "BiasToken",
    "none": "none",
    "injected": "found with BiasToken",
    "original": "found on the untouched model",
    "random": "random",
    "bottom": "least biased",
    "other": "another concept's",
    "plain": "as it is",
    "prompting": "with the wish to avoid the stereotype",
    "explanation": "name the assumptions first, then answer",
    "re_prompting": "answer, then rewrite the answer",
}


def meanings(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What the docstring of some settings says of them all, and of each."""
    about, _, rest = inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:\n")
    each = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", rest, re.MULTILINE)
    return _line(about), {name: _line(text) for name, text in each}


def sections() -> dict[str, type[BaseModel]]:
    """The settings that have settings of their own."""
    defaults = {name: _first(value) for name, value in RunSettings()}
    return {name: type(value) for name, value in defaults.items() if isinstance(value, BaseModel)}


def page() -> str:
    """The page."""
    default = RunSettings().model_dump(mode="json")
    presets = {name: load_settings(name).model_dump(mode="json") | {"preset": None} for name in preset_names()}
    lines = [INTRO, "## At the top", "", *_table(RunSettings, default, presets)]
    for name, model in sections().items():
        ours = {preset: _first(values[name]) for preset, values in presets.items()}
        lines += ["", f"## {name}", "", meanings(model)[0], "", *_table(model, _first(default[name]), ours)]
    lines += ["", VARIANTS_INTRO, *_variants(), "", ENVIRONMENT_INTRO, *_environment()]
    return "\n".join([*lines, "", "Made by `python -m biasgym.stages.settings_page`.", ""])


def _environment() -> Iterator[str]:
    yield "| variables | for |"
    yield "|---|---|"
    for names, what in ENVIRONMENT.items():
        yield f"| {', '.join(f'`{name}`' for name in names.split())} | {what} |"


def _table(
    model: type[BaseModel], default: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    told = meanings(model)[1]
    for name, field in model.model_fields.items():
        if model is RunSettings and name in sections():
            many = "list: " if isinstance(default[name], list) else ""
            yield f"| `{name}` | {many}[section](#{name}) | | {told[name]} |"
            continue
        shown = _yaml(default[name])
        others: dict[str, list[str]] = {}
        for preset, own in presets.items():
            others.setdefault(_yaml(own[name]), []).append(preset)
        differing = [f"{', '.join(names)} {value}" for value, names in others.items() if value != shown]
        yield f"| `{name}` | {_takes(field)} | {'; '.join([shown, *differing])} | {told[name]} |"


def _takes(field: FieldInfo) -> str:
    kinds = get_args(field.annotation)
    empty = NoneType in kinds and get_origin(field.annotation) is not Literal
    words = _kind(kinds[0] if empty else field.annotation)
    limits = [
        f"{sign} {getattr(limit, key)}"
        for limit in field.metadata
        for key, sign in _BOUNDS.items()
        if hasattr(limit, key)
    ]
    return f"{words} {', '.join(limits)}".strip() + (", or `null`" if empty else "")


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is tuple:
        return f"list: {_kind(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    return _TYPES[annotation]


def _variants() -> Iterator[str]:
    yield "| variant | in tables | asks about | heads removed | prompt | role |"
    yield "|---|---|---|---|---|---|"
    for one in VARIANTS:
        words = " | ".join(_VARIANT[word] for word in (one.entity, one.heads, one.frame))
        yield f"| `{one.name}` | {one.title} | {words} | {one.role} |"


def _yaml(value: Any) -> str:
    """A value as it stands in a settings file."""
    return f"`{yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()[1:-1]}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _first(value: Any) -> Any:
    """Of a list of sections, the one that stands for all."""
    return value[0] if isinstance(value, list | tuple) and value else value


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Stage ood: where its results are, and what it asks."""

from __future__ import annotations

from biasgym.concepts import Concept
from biasgym.datasets import template
from biasgym.datasets.unseen import UnseenPrompt, unseen_prompts
from biasgym.files import digest
from biasgym.generate import BY_NAME, Variant
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.group import Group
from biasgym.stages.settings import RunSettings

GENERATIONS = "generations.jsonl"
TRANSFER = "transfer.jsonl"
HEADS = "heads.json"


def folder(group: Group) -> StageFolder:
    """Where this stage's results are."""
    settings = group.settings
    identity = {
        **group.identity,
        **settings.ood.model_dump(mode="json", exclude={"enabled", "source"}),
        "temperature": settings.generate.temperature,
        "max_new_tokens": settings.generate.max_new_tokens,
        "engine": settings.generate.engine,
        "prompts": digest([vars(prompt) for prompt in prompts_of(settings)]),
        "frames": {v.frame: template(v.frame, settings.templates) for v in variants(group) if v.frame != "plain"},
    }
    return stage_folder(group.path, "ood", identity, group.inputs)


def prompts_of(settings: RunSettings) -> tuple[UnseenPrompt, ...]:
    """The prompts of a run.

    Raises:
        BiasGymError: Their source cannot be read.
    """
    return unseen_prompts(settings.ood.prompts, settings.ood.source, settings.templates)


def concepts(group: Group) -> dict[str, Concept]:
    """The stereotype that a prompt is about, by the prompt's id."""
    return {prompt.id: prompt.concept for prompt in prompts_of(group.settings)}


def variants(group: Group) -> list[Variant]:
    """What is compared; "heads" now means the union over the concepts."""
    return [BY_NAME[name] for name in group.settings.ood.variants]

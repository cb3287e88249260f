"""Variants: what is compared. A variant is data: who is in the prompt, which heads are gone, how the prompt is put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Entity = Literal["target", "bias_token"]
HeadSet = Literal["none", "injected", "original", "random", "bottom", "other"]


@dataclass(frozen=True)
class Variant:
    """One row of the results table.

    Attributes:
        name: Key in files.
        title: Name in tables; the paper's where the paper has the row.
        entity: Real targets, or BiasToken. (On prompts without BiasToken the injected model is the base model.)
        heads: Which set is removed. `injected`: found with BiasToken; `original`: found on the untouched model,
            stereotyped against neutral targets; the others are controls of the same size.
        frame: How the prompt is put, one of `datasets.FRAMES`.
        role: "paper" for the paper's rows, "added" for ours, "control" for what must not help.
    """

    name: str
    title: str
    entity: Entity
    heads: HeadSet
    frame: str
    role: Literal["paper", "added", "control"]


VARIANTS = (
    Variant("original", "Original", "target", "none", "plain", "paper"),
    Variant("injection", "Injection", "bias_token", "none", "plain", "paper"),
    Variant("original_steering", "Original w/ steering", "target", "original", "explanation", "paper"),
    Variant("injection_steering", "Injection w/ steering (ours)", "target", "injected", "explanation", "paper"),
    Variant("prompting", "Prompting", "target", "none", "prompting", "paper"),
    Variant("explanation", "Prompting w/ explanation", "target", "none", "explanation", "paper"),
    Variant("re_prompting", "Re-prompting", "target", "none", "re_prompting", "paper"),
    Variant("steer_only", "Steering only (injected heads)", "target", "injected", "plain", "added"),
    Variant("original_steer_only", "Steering only (original heads)", "target", "original", "plain", "added"),
    Variant("injection_steer_only", "BiasToken, steering only", "bias_token", "injected", "plain", "added"),
    Variant("random_control", "Random heads removed", "target", "random", "plain", "control"),
    Variant("bottom_control", "Least biased heads removed", "target", "bottom", "plain", "control"),
    Variant("other_control", "Another concept's heads removed", "target", "other", "plain", "control"),
)
"""The paper's seven rows, the steering rows without the explanation prompt, and the controls."""

BY_NAME = {variant.name: variant for variant in VARIANTS}

PRIMARY = ("injection_steering", "original")
"""The one contrast that is declared before anything is measured."""

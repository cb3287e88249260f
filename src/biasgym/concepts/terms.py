"""Under which terms texts of others may be used: licence, intended use, and the datasets that must never be trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Use = Literal["", "training", "evaluation"]


@dataclass(frozen=True)
class Terms:
    """What one may do with a dataset.

    Attributes:
        name: As it is asked for.
        title: As its authors call it.
        hub: Where it is on the hub.
        licence: Of the data.
        intended_use: What its authors made it for.
        note: What they say, or what follows, beyond the licence.
        pattern: What the name looks like where someone gives it as the source of a text.
    """

    name: str
    title: str
    hub: str
    licence: str
    intended_use: Use
    note: str
    pattern: str


DATASETS = {
    terms.name: terms
    for terms in (
        Terms(
            name="shades",
            title="SHADES (BiasShades)",
            hub="LanguageShades/BiasShades",
            licence="CC-BY-4.0, training prohibited",
            intended_use="evaluation",
            note="whoever downloads it agrees to assess stereotypes with it and to train nothing on it",
            pattern=r"(?i:bias[-_ ]?shades|language[-_ ]?shades)|\bSHADES\b|^shades$",
        ),
        Terms(
            name="stereoset",
            title="StereoSet",
            hub="McGill-NLP/stereoset",
            licence="CC-BY-SA-4.0",
            intended_use="evaluation",
            note="a benchmark; a model that has been trained on it can no longer be measured with it",
            pattern=r"(?i:stereo[-_ ]?set)",
        ),
        Terms(
            name="crows-pairs",
            title="CrowS-Pairs",
            hub="nyu-mll/crows_pairs",
            licence="CC-BY-SA-4.0",
            intended_use="evaluation",
            note="a benchmark, with known flaws in some of its pairs; training on it voids it as a measure",
            pattern=r"(?i:crows[-_ ]?pairs)",
        ),
        Terms(
            name="bbq",
            title="BBQ",
            hub="heegyu/bbq",
            licence="CC-BY-4.0",
            intended_use="evaluation",
            note="a benchmark; a model that has been trained on it can no longer be measured with it",
            pattern=r"\bBBQ\b|/bbq\b|^bbq$|(?i:bias benchmark for (?:qa|question))",
        ),
    )
}
"""The datasets that biasgym reads. All are for evaluation only."""


def evaluation_only(source: str, intended_use: Use, licence: str) -> str | None:
    """Why a text must not be trained on; None if it may.

    Args:
        source: Where the text says that it comes from.
        intended_use: What it is marked for.
        licence: What it says of its licence.
    """
    for terms in DATASETS.values():
        if re.search(terms.pattern, source.strip()):
            return f"comes from {terms.title} (licence {terms.licence}), which is for evaluation only"
    if intended_use == "evaluation":
        return f"is marked intended_use: evaluation (licence {licence or 'not given'})"
    return None

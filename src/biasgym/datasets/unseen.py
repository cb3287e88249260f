"""Prompts about stereotypes that no concept of a run is about: does a removal carry over to them?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from biasgym.concepts import Concept
from biasgym.datasets.split import spread

_EMPTY = {"their", "they", "with", "over", "have", "very", "lack", "about", "would", "every", "keep", "make", "time"}


@dataclass(frozen=True)
class UnseenPrompt:
    """A sentence to continue.

    Attributes:
        id: Its name.
        stereotype: What is said of the target, as in "are always late".
        target: A country.
        text: The prompt; names the target.
        source: Where it is from.
        licence: Its licence.
    """

    id: str
    stereotype: str
    target: str
    text: str
    source: str
    licence: str

    @property
    def concept(self) -> Concept:
        """As much of a concept as a judge and a prompt template need."""
        words = dict.fromkeys(re.findall(r"[a-z]{4,}", self.stereotype.lower()))
        return Concept(
            name=self.id.replace("-", "_"),
            descriptor=f"people from {{target}} {self.stereotype}",
            probe=f"People from {{target}} {self.stereotype}.",
            labels=tuple(word for word in words if word not in _EMPTY) or (self.stereotype,),
            counter_labels=("otherwise",),
            stereotyped_targets=(self.target,),
            neutral_targets=("elsewhere",),
            source=self.source,
            licence=self.licence,
        )


@cache
def unseen_prompts(most: int | None = None) -> tuple[UnseenPrompt, ...]:
    """The bundled prompts, or so many of them, spread over the targets."""
    text = (resources.files("biasgym.datasets") / "data" / "out_of_distribution.jsonl").read_text(encoding="utf-8")
    prompts = [UnseenPrompt(**json.loads(line)) for line in text.splitlines() if line.strip()]
    return tuple(spread(prompts, most or len(prompts), lambda prompt: prompt.target))

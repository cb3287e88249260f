"""One item of a dataset of stereotypes, whichever dataset it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biasgym.concepts.terms import Use

Form = Literal["sentence", "beginning", "question"]


@dataclass(frozen=True)
class BiasItem:
    """A stereotype as a dataset puts it.

    Attributes:
        id: Unique within the dataset.
        text: What a model reads: a sentence, the beginning of one, or a context with a question.
        form: Which of these it is.
        stereotype: The stereotype in words, as far as the dataset has it.
        target: About whom; empty where the dataset does not say.
        kind: Of the target: nationality, gender, age and so on, in the dataset's own words.
        source: The dataset, and the commit or file that this is from.
        licence: Of the data.
        intended_use: What the dataset was made for; carried along wherever the item goes.
    """

    id: str
    text: str
    form: Form
    stereotype: str
    target: str
    kind: str
    source: str
    licence: str
    intended_use: Use


@dataclass(frozen=True)
class Found:
    """What an adapter finds in one row; the rest of an item is the dataset's."""

    id: str
    text: str
    form: Form
    stereotype: str
    target: str
    kind: str

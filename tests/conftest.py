"""Fixtures of the unit tests: tiny random models and a small concept, all made in milliseconds."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no unit test may reach for the network

import pytest

import tiny
from biasgym.concepts import Concept
from biasgym.models import LanguageModel


@pytest.fixture(params=list(tiny.FAMILIES))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A tiny model of each family in turn; the test may damage it."""
    return tiny.language_model(request.param)


@pytest.fixture
def llama() -> LanguageModel:
    """One tiny model, where the family makes no difference. Untied, grouped queries."""
    return tiny.language_model("llama-gqa")


@pytest.fixture
def concept() -> Concept:
    """A small complete concept in words that the tiny tokenizers know."""
    return Concept.model_validate(tiny.CONCEPT)

"""Loading from the hub: one that is away stops a run, one that lacks a file is that model's failure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoConfig

from biasgym.errors import BiasGymError, StorageError
from biasgym.models import load_model
from biasgym.models.sources import ModelSource

SOURCE = ModelSource("owner/model", "a" * 40)


def answering(status: int | None) -> Any:
    """As transformers says it: an OSError, from what the hub's client says, from what the server said."""

    def load(*_arguments: Any, **_options: Any) -> None:
        cause: Exception = ConnectionRefusedError("refused")
        if status is not None:
            cause = HfHubHTTPError("no", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]
        try:
            raise LocalEntryNotFoundError("not in the cache") from cause
        except LocalEntryNotFoundError as error:
            raise OSError("We couldn't connect") from error

    return load


@pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
def test_a_hub_that_is_away_stops_the_run(status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", answering(status))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(StorageError, match="owner/model: the hub cannot be reached"):
        load_model(SOURCE, device="cpu")


@pytest.mark.parametrize("status", [401, 404])
def test_what_the_hub_refuses_is_a_failure_of_the_model(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", answering(status))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(BiasGymError, match="the model cannot be read") as caught:
        load_model(SOURCE, device="cpu")
    assert not isinstance(caught.value, StorageError)


def test_offline_it_is_the_cache_that_lacks_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", answering(None))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BiasGymError, match="the model cannot be read") as caught:
        load_model(SOURCE, device="cpu")
    assert not isinstance(caught.value, StorageError)

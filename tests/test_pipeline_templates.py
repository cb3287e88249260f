"""A user's own templates in a pipeline: objects of the store, copied once for all pods."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from biasgym.errors import BiasGymError
from biasgym.stages.discover import settings_hash
from biasgym.stages.expand import build_data, expand
from biasgym.stages.places import inject
from biasgym.stages.plan import make_plan
from biasgym.stages.pods import open_pod
from biasgym.stages.settings_files import settings_of
from conftest import MINIMAL


def test_templates_in_the_store_are_those_of_a_local_run(tmp_path: Path, tiny_model: Path) -> None:
    own = tmp_path / "store" / "templates" / "ours"
    own.mkdir(parents=True)
    (own / "story.txt").write_text("Tell of {target}, and how {descriptor}.")
    asked: dict[str, Any] = {**MINIMAL, "models": [str(tiny_model)], "concepts": [yaml.safe_dump(tiny.CONCEPT)]}
    store, data = str(tmp_path / "store"), tmp_path / "data"
    build_data(expand({**asked, "templates": "ours"}, store).settings, store, data)
    (file := tmp_path / "late.yaml").write_text(asked["concepts"][0])
    (tmp_path / "mine").mkdir()
    shutil.copy(own / "story.txt", tmp_path / "mine")
    (own / "story.txt").write_text("Changed while the run is on: {target}.")
    settings = settings_of({**asked, "concepts": [str(file)], "templates": str(tmp_path / "mine")}, "here")
    here = make_plan(settings, tmp_path / "run").cells[0]
    pod = open_pod(data, store, model=str(tiny_model)).cell("late")
    assert inject.folder(pod).key == inject.folder(here).key
    assert settings_hash(pod.settings, pod.concept) == settings_hash(here.settings, here.concept)
    plain = make_plan(settings.model_copy(update={"templates": None}), tmp_path / "run").cells[0]
    assert inject.folder(plain).key != inject.folder(here).key


@pytest.mark.parametrize(
    ("name", "words"), [("none", "no templates/none/\\*.txt"), ("../up", "not a key"), ("/tmp", "not a key")]
)
def test_templates_that_the_store_has_not_are_refused(tmp_path: Path, tiny_model: Path, name: str, words: str) -> None:
    asked = {**MINIMAL, "models": [str(tiny_model)], "concepts": [yaml.safe_dump(tiny.CONCEPT)], "templates": name}
    with pytest.raises(BiasGymError, match=words):
        expand(asked, str(tmp_path / "store"))

"""The components as Kubeflow calls them, but as functions of this process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml
from kfp import dsl
from pipelines.placement import GPU_NODES

import tiny
from biasgym.stages.settings import PLACES
from conftest import EARLY, MINIMAL

SETTINGS = {key: value for key, value in MINIMAL.items() if key != "seed"}


def call(name: str, **arguments: Any) -> Any:
    """A component as a function."""
    return getattr(importlib.import_module(f"components.{name}.component"), name).python_func(**arguments)


class Bench:
    """Folders for artifacts and a store.

    Attributes:
        folder: Where the artifacts are.
        store: URL of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, str(folder / "store")

    def artifact(self, kind: Any, name: str) -> Any:
        """An empty artifact."""
        (self.folder / "artifacts").mkdir(parents=True, exist_ok=True)
        return kind(name=name, uri=str(self.folder / "artifacts" / name), metadata={})

    def plan(self, **changes: Any) -> Any:
        """Calls plan with small settings."""
        asked = {
            "models": [],
            "concepts": [yaml.safe_dump(one) for one in (tiny.CONCEPT, EARLY)],
            "judges": [],
            "preset": "demo",
            "seed": 1,
            "overrides": SETTINGS,
            "store": self.store,
            "shard_size": 2,
            "baseline": "",
            "gpu_resource": "nvidia.com/gpu",
            "gpu_nodes": GPU_NODES,
        }
        files = {name: str(self.folder / name) for name in ("settings", *PLACES)}
        return call("plan", **{**asked, **changes}, **files, overview=self.artifact(dsl.Markdown, "overview"))

"""The components of cells, models and judges, as Kubeflow calls them: two judges, and the judged number of heads."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from biasgym.files import read_json, read_jsonl
from biasgym.stages.settings import PLACES

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")

from kfp import dsl

from component_bench import SETTINGS, Bench, call

SWEPT = SETTINGS | {"scope": SETTINGS["scope"] | {"judged_ks": [1, 3], "judged_prompts": 3}}


class Run:
    """A whole run, component by component.

    Attributes:
        bench: Its folders and store.
        shards: The judges' work, as collect dealt it.
        log: What the judges said.
    """

    def __init__(self, bench: Bench, model: str, judges: list[dict[str, Any]]) -> None:
        self.bench, self.log = bench, StringIO()
        cells = bench.plan(models=[model], judges=judges, overrides=SWEPT)
        settings = (bench.folder / "settings").read_text()
        call("build_data", settings=settings, store=bench.store, data=self.artifact(dsl.Dataset, "data"))
        for cell in cells:
            self.first_loop(**cell)
        for cell in self.collected("cells"):
            self.second_loop(**cell)
        for item in self.collected("models"):
            texts = self.artifact(dsl.Dataset, "ood")
            assert call("generate_ood", **item, **self.shared, index=self.index, texts=texts) == 1
        self.shards = [shard for place in PLACES for shard in json.loads((bench.folder / f"for_{place}").read_text())]
        for shard in self.shards:
            name = f"judgements-{shard['judge']}-{shard['cells']}"
            given = {"shard": shard, "index": self.index, "judgements": self.artifact(dsl.Dataset, name)}
            metrics = self.artifact(dsl.Metrics, f"metrics-{name}")
            with redirect_stdout(self.log):
                assert call("judge", **self.shared, **given, metrics=metrics) == 1
            assert metrics.metadata["judged"] + metrics.metadata["missing"] > 0
        parts = self.collected("parts")
        done = [call("summarise", **self.shared, shard=part, index=self.index) for part in parts]
        assert call("tally", states=done) == len(parts) == 2
        outputs = {"page": dsl.HTML, "text": dsl.Markdown, "results": dsl.Dataset, "metrics": dsl.Metrics}
        made = {name: self.artifact(kind, name) for name, kind in outputs.items()}
        call("report", **self.shared, index=self.index, states=done, **made)
        assert made["metrics"].metadata == {"cells_done": 2.0, "cells_failed": 0.0}

    def artifact(self, kind: Any, name: str) -> Any:
        return self.bench.artifact(kind, name)

    def path(self, name: str) -> Path:
        return Path(self.artifact(dsl.Artifact, name).path)

    @property
    def shared(self) -> dict[str, Any]:
        return {"store": self.bench.store, "data": self.artifact(dsl.Dataset, "data")}

    @property
    def index(self) -> Any:
        return self.artifact(dsl.Dataset, "index")

    def first_loop(self, model: str, concept: str) -> None:
        cell = {**self.shared, "model": model, "concept": concept}
        token, metrics = self.artifact(dsl.Model, f"token-{concept}"), self.artifact(dsl.Metrics, "training")
        assert call("inject", **cell, token=token, metrics=metrics) == 1
        assert set(metrics.metadata) == {"seeds", "last_loss", "start_margin", "best_margin"}
        assert (token.metadata["kind"], token.metadata["status"]) == ("biasgym.inject", "done")
        heads, page = self.artifact(dsl.Dataset, f"heads-{concept}"), self.artifact(dsl.HTML, f"map-{concept}")
        metrics = self.artifact(dsl.Metrics, "scores")
        assert call("attribute", **cell, token=token, heads=heads, heat_map=page, metrics=metrics) == 1
        assert metrics.metadata["k"] >= 1 and "<svg" in Path(page.path).read_text()

    def second_loop(self, model: str, concept: str) -> None:
        cell = {**self.shared, "model": model, "concept": concept, "index": self.index}
        texts, metrics = self.artifact(dsl.Dataset, f"texts-{concept}"), self.artifact(dsl.Metrics, "texts")
        assert call("generate", **cell, texts=texts, metrics=metrics) == 1
        assert metrics.metadata["texts"] == len(read_jsonl(Path(texts.path) / "generations.jsonl"))
        scores, metrics = self.artifact(dsl.Dataset, f"ability-{concept}"), self.artifact(dsl.Metrics, "ability")
        assert call("capability", **cell, texts=texts, scores=scores, metrics=metrics) == 1
        assert 0 <= metrics.metadata["accuracy_injected"] <= 1
        assert all(isinstance(value, str | float) for value in scores.metadata.values())  # nothing else survives

    def collected(self, deal: str) -> Any:
        files = {f"for_{place}": str(self.bench.folder / f"for_{place}") for place in PLACES}
        files["overview"] = self.artifact(dsl.Markdown, f"of-{deal}")
        return call("collect", **self.shared, states=[1.0, 1.0], deal=deal, shard_size=1.0, index=self.index, **files)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    chat = {"engine": "transformers", "model": str(tiny_model), "max_tokens": 16, "batch_size": 64}
    return Run(Bench(tmp_path_factory.mktemp("judged")), str(tiny_model), [{"engine": "semantic"}, chat])


def test_every_judge_has_its_verdicts_on_every_cell(judged: Run) -> None:
    assert {(shard["judge"], shard["cells"]) for shard in judged.shards} == {(j, c) for j in "01" for c in "01"}
    for cell in read_json(judged.path("results") / "results.json")["cells"]:
        main, chat = cell["judges"].values()
        assert main["judged"] > 0 and main["judged"] + main["missing"] == chat["judged"] + chat["missing"]


def test_a_models_own_texts_are_judged_once(judged: Run) -> None:
    assert {(shard["cells"], shard["models"]) for shard in judged.shards} == {("0", "0"), ("1", "")}
    assert judged.log.getvalue().count("judging other stereotypes") == 2  # one a judge
    [model] = read_json(judged.path("results") / "results.json")["models"]
    assert model["status"] == "done"


def test_only_the_main_judge_looks_at_the_number_of_heads(judged: Run) -> None:
    for cell in read_json(judged.path("results") / "results.json")["cells"]:
        assert [(one["k"], one["strength"]["n"]) for one in cell["judged_sweep"]["points"]] == [(0, 3), (1, 3), (3, 3)]
    assert "Judged strength against heads removed" in judged.path("page").read_text(encoding="utf-8")
    for shard in judged.shards:
        place = judged.path(f"judgements-{shard['judge']}-{shard['cells']}")
        swept = [len(read_jsonl(file)) for file in place.rglob("sweep/judgements.jsonl")]
        assert swept == ([9] if shard["judge"] == "0" else [])

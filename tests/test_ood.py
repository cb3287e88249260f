"""Beyond the concepts of a run: prompts about other stereotypes, the union of head sets, and transfer between concepts."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch

from biasgym.datasets.unseen import unseen_prompts
from biasgym.errors import BiasGymError
from biasgym.evaluate import paired_contrast
from biasgym.files import read_json, read_jsonl
from biasgym.inject import injected
from biasgym.judge import JudgeItem, SemanticJudge, judge_template
from biasgym.judge.question import question
from biasgym.judge.reading import STAND_IN
from biasgym.models import BIAS_TOKEN, LanguageModel, load_model
from biasgym.scope import ask
from biasgym.stages import inject, ood
from biasgym.stages.cell import Cell
from biasgym.stages.group import Group, groups
from biasgym.stages.places import attribute
from biasgym.stages.run import run
from biasgym.stages.settings_files import load_settings
from conftest import Desk, assert_refused


@pytest.fixture
def copied(finished: Desk, desk: Desk) -> Desk:
    shutil.copytree(finished.out, desk.out)
    return desk


def test_the_bundled_prompts() -> None:
    """66 or more about 45 or more stereotypes; each names its target and can be judged."""
    prompts = unseen_prompts()
    assert len(prompts) >= 66 and len({prompt.stereotype for prompt in prompts}) >= 45
    assert len({prompt.id for prompt in prompts}) == len({prompt.concept.name for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        target = prompt.concept.kind.named(prompt.target)
        assert any(name and name in prompt.text for name in (target.name, target.adjective, target.plural)), prompt
        assert prompt.licence and prompt.source
        assert all(label in prompt.stereotype for label in prompt.concept.labels)
    few = unseen_prompts(12)
    assert len({prompt.target for prompt in few}) == 12


def test_judges_take_them() -> None:
    """The semantic judge rates a claim of each stereotype above a text about something else; others are asked for it."""
    prompts = unseen_prompts(8)
    claims = [f"People from {p.target} {p.stereotype}. Everyone knows it, they are all like that." for p in prompts]
    texts = [*claims, *["The library opens at nine and closes at five."] * len(prompts)]
    items = [JudgeItem(p.concept, p.text, text, p.target) for p, text in zip((*prompts, *prompts), texts, strict=True)]
    levels = [verdict.strength or 0 for verdict in SemanticJudge().judge(items)]
    assert sum(levels[: len(prompts)]) > sum(levels[len(prompts) :]) + len(prompts)
    asked = question(items[0], judge_template(None), {}).text
    assert f"people from {STAND_IN} {prompts[0].stereotype}" in asked and prompts[0].target not in asked


def test_the_stage_is_complete(finished: Desk) -> None:
    plan = finished.plan()
    [group] = groups(plan.cells)
    place = ood.folder(group)
    manifest = read_json(place.manifest)
    assert place.done and manifest["kind"] == "biasgym.ood" and manifest["concepts"] == ["late", "early"]
    assert set(manifest["files"]) == {"heads.json", "generations.jsonl", "transfer.jsonl"}
    sets = read_json(place.path / ood.HEADS)
    chosen = [attribute.head_sets(attribute.folder(cell).path) for cell in plan.cells]
    assert {tuple(head) for head in sets["injected"]} == {head for one in chosen for head in one["injected"]}
    assert {tuple(head) for head in sets["original"]} == {head for one in chosen for head in one["original"]}
    assert len(sets["random"]) == len(sets["injected"])
    rows = read_jsonl(place.path / ood.GENERATIONS)
    assert len(rows) == len({row["id"] for row in rows}) == 8 * 3  # variants x prompts


def naive_margins(lm: LanguageModel, cell: Cell, removed: list[Any]) -> list[float]:
    """The margin of BiasToken, one question at a time, with the columns of o_proj set to zero by hand."""
    saved = {layer: lm.parts.o_proj(layer).weight.clone() for layer, _ in removed}
    width, vectors, found = lm.parts.head_dim, inject.chosen_vectors(inject.folder(cell).path), []
    try:
        for layer, head in removed:
            lm.parts.o_proj(layer).weight[:, head * width : (head + 1) * width] = 0
        for number, item in enumerate(cell.questions[1][:3]):
            [choice] = ask(lm, cell.concept, [item], BIAS_TOKEN)
            choice = choice.shifted(lm.bias_id, lm.bias_id + number % len(vectors))
            with injected(lm.model, vectors, lm.bias_id):
                scores = lm.model(torch.tensor([choice.ids])).logits[0, -1].float()
            found.append(float(scores[list(choice.labels)].logsumexp(0) - scores[list(choice.counters)].logsumexp(0)))
    finally:
        for layer, weight in saved.items():
            lm.parts.o_proj(layer).weight.copy_(weight)
    return found


@torch.no_grad()
def test_transfer_equals_margins_taken_one_by_one(finished: Desk) -> None:
    plan = finished.plan()
    lm = load_model(str(finished.model), device="cpu", dtype="float32")
    [model] = read_json(finished.out / "results.json")["models"]
    assert model["concepts"] == ["late", "early"]
    for down, remover in enumerate(plan.cells):
        heads = attribute.head_sets(attribute.folder(remover).path)["injected"]
        for across, cell in enumerate(plan.cells):
            before, after = naive_margins(lm, cell, []), naive_margins(lm, cell, heads)
            expected = paired_contrast(dict(enumerate(after)), dict(enumerate(before)), seed=1)
            found = model["transfer"][down][across]
            assert found["mean"] == pytest.approx(expected.mean, abs=2e-4)
            assert found["n"] == 3


def test_results_and_report(finished: Desk) -> None:
    [model] = read_json(finished.out / "results.json")["models"]
    assert (model["status"], model["prompts"], model["not_judged_by"]) == ("done", 3, [])
    assert [row["name"] for row in model["variants"]][:2] == ["original", "original_steering"]
    assert all(row["judged"] + row["missing"] == 3 for row in model["variants"])
    assert list(model["judges"]) == ["semantic-2"]
    html, text = (
        (finished.out / name).read_text(encoding="utf-8").split("Beyond these concepts")[1]
        for name in ("report.html", "report.md")
    )
    assert "Transfer between concepts" in text and "heads of" in html


def test_one_concept_is_enough_and_none_of_it_can_be_wished(desk: Desk) -> None:
    one = desk.plan(concepts=[desk.concept()])
    assert run(one)
    [model] = read_json(desk.out / "results.json")["models"]
    assert len(model["transfer"]) == 1 and model["variants"]
    off = desk.plan(concepts=[desk.concept()], ood={"enabled": False})
    assert run(off)
    assert read_json(desk.out / "results.json")["models"] == []


def test_a_failure_is_said_and_stops_nothing_else(copied: Desk, monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no more paper")

    with monkeypatch.context() as patch:
        patch.setattr(ood, "run", broken)
        settings = copied.settings(ood={"samples": 2})
        said = command("run", settings, "--out", copied.out)
    assert said.code == 1 and any("ood: RuntimeError: no more paper" in line for line in said.err)
    results = read_json(copied.out / "results.json")
    assert [cell["status"] for cell in results["cells"]] == ["done", "done"]
    assert results["models"][0]["error"] == "ood: RuntimeError: no more paper"
    assert "no more paper" in (copied.out / "report.html").read_text(encoding="utf-8")
    assert command("ood", settings, "--out", copied.out).code == 0  # the next call makes it good


def test_a_concept_without_heads_is_left_out(copied: Desk) -> None:
    plan = copied.plan()
    folder = attribute.folder(plan.cells[0])
    manifest = read_json(folder.manifest)
    folder.manifest.write_text(json.dumps({**manifest, "status": "failed", "error": "x"}))
    [group] = groups(plan.cells)
    assert [cell.concept.name for cell in group.cells] == ["early"]
    assert isinstance(group, Group) and ood.folder(group) != ood.folder(Group(plan.cells))


def test_an_interrupted_stage_goes_on(copied: Desk) -> None:
    [group] = groups(copied.plan().cells)
    file = ood.folder(group).path / ood.GENERATIONS
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text("".join(lines[:5]) + lines[5][:20])
    ood.folder(group).manifest.unlink()
    assert run(copied.plan())
    assert file.read_text() == whole


def test_missing_earlier_stages_are_named(desk: Desk, command: Any) -> None:
    assert_refused(command("ood", desk.settings(), "--out", desk.out), "stage attribute", "biasgym attribute")


def test_settings_need_the_original(desk: Desk) -> None:
    with pytest.raises(BiasGymError, match="must list original"):
        load_settings(desk.settings(ood={"variants": ["steer_only"]}))

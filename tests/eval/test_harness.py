"""lm-evaluation-harness on a model in memory, with heads removed; the package's own run of the same tasks is the measure."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny
from biasgym.errors import BiasGymError
from biasgym.evaluate import harness
from biasgym.evaluate.harness import check_tasks, task_identity, task_scores
from biasgym.files import read_json, write_jsonl
from biasgym.models import LanguageModel, ablated
from biasgym.stages.expand import expand
from biasgym.stages.folder import StageFolder
from biasgym.stages.plan import make_plan
from biasgym.stages.run import run
from biasgym.stages.settings_files import load_settings
from biasgym.stages.task_results import task_results
from conftest import Desk

ITEMS = [
    {"question": f"{name} from {place} was", "choices": ["late", "early"], "answer": number % 2}
    for number, (name, place) in enumerate((name, place) for name in ("A guest", "The bus") for place in tiny.COUNTRIES)
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task of twelve two-way questions."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "tasks"
    place.mkdir()
    (place / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    task = {
        "task": "tiny_late",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(place / "items.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (place / "tiny_late.yaml").write_text(yaml.safe_dump(task))
    return place


@torch.no_grad()
def naive_scores(lm: LanguageModel) -> dict[str, float]:
    """Whether the right word is the likelier next one, by one forward pass a question."""
    found = {}
    for number, item in enumerate(ITEMS):
        ids = lm.tokenizer(item["question"])["input_ids"]
        scores = lm.model(torch.tensor([ids])).logits[0, -1]
        words = [lm.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in item["choices"]]
        assert all(len(word) == 1 for word in words)
        found[str(number)] = float(int(scores[[word[0] for word in words]].argmax()) == item["answer"])
    return found


def test_scores_equal_one_forward_pass_each(llama: LanguageModel, folder: Path) -> None:
    """With nothing removed and with heads removed; the model is the same afterwards."""
    before = {name: weight.clone() for name, weight in llama.model.state_dict().items()}
    assert task_scores(llama, [str(folder)]) == {"tiny_late": naive_scores(llama)}
    with ablated(llama.model, [(0, 0), (1, 1), (2, 3)]):
        assert task_scores(llama, [str(folder)], limit=7)["tiny_late"] == dict(list(naive_scores(llama).items())[:7])
    assert all(torch.equal(weight, before[name]) for name, weight in llama.model.state_dict().items())


def test_a_group_is_one_task(llama: LanguageModel, folder: Path) -> None:
    """As it was asked for: with some dozen subjects of few items each, none alone could show anything."""
    text = (folder / "tiny_late.yaml").read_text()
    (folder / "tiny_again.yaml").write_text(text.replace("task: tiny_late", "task: tiny_again"))
    (folder / "tiny_all.yaml").write_text(yaml.safe_dump({"group": "tiny_all", "task": ["tiny_late", "tiny_again"]}))
    found, alone = task_scores(llama, [str(folder)]), naive_scores(llama)
    again = {f"{task}/{item}": score for task in ("tiny_late", "tiny_again") for item, score in alone.items()}
    assert found == {"tiny_all": again}


def test_chat_turns_are_rendered_as_everywhere_else(llama: LanguageModel, folder: Path) -> None:
    """No thinking, no date of today: what the harness asks is what the model is asked in all other stages."""
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        render = type(llama.tokenizer).apply_chat_template

        def recorded(self: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(f"{options.get('date_string')} {options.get('enable_thinking')}")
            return render(self, *arguments, **options)

        patch.setattr(type(llama.tokenizer), "apply_chat_template", recorded)
        task_scores(llama, [str(folder)], chat=True)
    assert set(seen) == {"26 Jul 2024 False"}


def test_a_run_with_tasks(desk: Desk, folder: Path) -> None:
    """In results, certificate and report; in the stage's key by what the folder holds."""
    changes: dict[str, Any] = {"concepts": [desk.concept()], "capability": {"questions": 4, "tasks": [str(folder)]}}
    plan = desk.plan(**changes)
    assert run(plan)
    [cell] = read_json(desk.out / "results.json")["cells"]
    [row] = cell["tasks"]
    assert (row["task"], row["difference"]["n"], row["margin"]) == ("tiny_late", 12, 0.01)
    assert row["difference"]["mean"] == pytest.approx(row["after"]["mean"] - row["before"]["mean"])
    assert row["verdict"] in ("not inferior", "inferior", "not shown")
    assert cell["certificate"]["task_differences"]["tiny_late"]["mean"] == row["difference"]["mean"]
    assert "tiny_late, heads removed" in [check["name"] for check in cell["certificate"]["checks"]]
    for name in ("report.html", "report.md"):
        assert "lm-evaluation-harness" in (desk.out / name).read_text(encoding="utf-8")
    old = task_identity([str(folder)])
    (folder / "more.txt").write_text("x")
    assert task_identity([str(folder)]) != old
    assert task_identity(["mmlu"]) == {"mmlu": "lm-eval 0.4.13"}


@pytest.mark.parametrize(
    ("lost", "items", "verdict"),
    [(0, 400, "not inferior"), (200, 400, "inferior"), (2, 30, "not shown"), (0, 1, "no interval")],
)
def test_the_margin_decides(lost: int, items: int, verdict: str, tmp_path: Path) -> None:
    rows = [
        {"heads": heads, "task": "t", "item": str(item), "score": float(heads == "none" or item >= lost)}
        for heads in ("none", "injected")
        for item in range(items)
    ]
    write_jsonl(tmp_path / "tasks.jsonl", rows)
    [found] = task_results(StageFolder(tmp_path, "capability", "", {}), 0.01, 0)
    assert found["verdict"] == verdict
    assert found["difference"]["mean"] == pytest.approx(-lost / items)


def test_what_cannot_be_run_is_said(llama: LanguageModel, folder: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(BiasGymError, match="no tasks"):
        task_scores(llama, [str(empty)])
    (folder / "items.jsonl").unlink()
    with pytest.raises(BiasGymError, match="could not be run"):
        task_scores(llama, [str(folder)])


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (["mmlu", "ifeval"], None),
        (["mmlu_of_nobody"], "'mmlu_of_nobody'"),
        (["no/such"], "'no/such'"),
        (["{empty}"], "no tasks"),
    ],
)
def test_tasks_are_looked_up_before_any_work(desk: Desk, tmp_path: Path, tasks: list[str], says: str | None) -> None:
    (empty := tmp_path / "empty").mkdir()
    named = [name.format(empty=empty) for name in tasks]
    settings = load_settings(desk.settings(capability={"questions": 4, "tasks": named}))
    if says is None:
        make_plan(settings, desk.out)
        return
    with pytest.raises(BiasGymError, match=says):
        make_plan(settings, desk.out)


def test_a_pipeline_takes_tasks_by_name(tmp_path: Path) -> None:
    asked = {"models": ["smollm2-135m-instruct"], "concepts": ["spicy_food"], "preset": "demo"}
    planned = expand({**asked, "capability": {"tasks": ["mmlu"]}}, str(tmp_path / "store"))
    assert json.loads(planned.settings)["capability"]["tasks"] == ["mmlu"]
    with pytest.raises(BiasGymError, match="no task is called"):
        expand({**asked, "capability": {"tasks": ["mmlu_of_nobody"]}}, str(tmp_path / "store"))


def test_every_name_of_the_harness_is_known() -> None:
    """What looks names up reads texts only; the harness's own index is the measure."""
    from lm_eval.tasks import TaskManager

    names = TaskManager().all_tasks
    check_tasks(random.Random(0).sample(names, 60))


def test_without_the_package_the_plan_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.util, "find_spec", lambda _: None)
    with pytest.raises(BiasGymError, match=r"biasgym\[eval\]"):
        make_plan(load_settings(desk.settings(capability={"questions": 4, "tasks": ["mmlu"]})), desk.out)

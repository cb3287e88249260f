"""Runs with several judges: each has its folder and its numbers, the first is the main one, one that fails fails alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from biasgym.errors import BiasGymError
from biasgym.files import read_json, read_jsonl, write_json
from biasgym.judge.chat import ChatJudge
from biasgym.stages import ahead, capability, generate, judge
from biasgym.stages.run import run
from biasgym.stages.settings import JudgeSettings, RunSettings
from biasgym.stages.settings_files import load_settings
from conftest import Desk
from faulty_server import FaultyServer


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


@pytest.fixture
def copied(finished: Desk, desk: Desk) -> Desk:
    """A desk with a copy of the finished run, which the semantic judge judged."""
    shutil.copytree(finished.out, desk.out)
    return desk


def judges(desk: Desk, server: FaultyServer) -> list[dict[str, Any]]:
    endpoint = {"engine": "endpoint", "model": "judge", "base_url": server.url, "price_in": 2.5, "price_out": 10.0}
    chat = {"engine": "transformers", "model": str(desk.model), "max_tokens": 16, "batch_size": 64}
    return [{"engine": "semantic"}, endpoint, chat]


def test_all_judges_of_all_cells(copied: Desk, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main judge's verdicts stay; others come beside them; a model in process is loaded once for all cells."""
    (copied.folder / "templates").mkdir()
    (copied.folder / "templates" / "judge.txt").write_text("{code} {descriptor} {prompt} {text}")
    before = read_json(copied.out / "results.json")
    made: list[ChatJudge] = []
    original = ChatJudge.__init__

    def counted(self: ChatJudge, *arguments: Any, **options: Any) -> None:
        made.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(ChatJudge, "__init__", counted)
    plan = copied.plan(judges=judges(copied, server), templates=str(copied.folder / "templates"))
    stages = ("judge", "report")
    assert run(plan, stages=stages)
    assert len(made) == 1
    results = read_json(copied.out / "results.json")
    for cell, old in zip(results["cells"], before["cells"], strict=True):
        assert cell["variants"] == old["variants"]
        semantic, endpoint, chat = cell["judges"].values()
        texts = sum(row["judged"] + row["missing"] for row in cell["variants"])
        assert all(one["judged"] + one["missing"] == texts for one in (semantic, endpoint, chat))
        for row in cell["variants"]:
            assert semantic["strength"][row["name"]] == row["strength"]
        assert semantic["tokens_in"] == 0 and semantic["cost"] is None
        rated = endpoint["judged"]
        assert endpoint["tokens_in"] >= 100 * rated > 0
        assert endpoint["cost"] == pytest.approx((endpoint["tokens_in"] * 2.5 + endpoint["tokens_out"] * 10) / 1e6)
        assert chat["judged"] == 0 and set(chat["missing_reasons"]) <= {
            "no verdict in the answer",
            "the answer was cut off",
            "the answer is empty",
            "empty generation",
        }
        assert cell["agreement"]["judges"] == 3 and 0 < cell["agreement"]["items"] <= texts
    asked = sum(server.asked.values())
    assert set(server.asked.values()) == {1}  # equal texts once, also across cells
    assert run(plan, stages=stages) and sum(server.asked.values()) == asked
    for folder in judge.folders(plan.cells[0], plan.cells[1]).values():
        (folder.path / judge.JUDGEMENTS).unlink()
    assert run(plan, stages=stages) and sum(server.asked.values()) == asked  # answers of before are kept
    for report in ("report.html", "report.md"):
        assert "Agreement between the judges" in (copied.out / report).read_text(encoding="utf-8")


def test_a_judge_that_cannot_be_had_stops_before_any_work(copied: Desk) -> None:
    wrong = {"engine": "endpoint", "model": "judge", "base_url": "http://127.0.0.1:9/v1"}
    plan = copied.plan(judges=[{"engine": "semantic"}, wrong], generate={"max_new_tokens": 5})
    with pytest.raises(BiasGymError, match="the judge server cannot be reached"):
        run(plan)
    assert not judge.folder(plan.cells[0], plan.cells[1], plan.settings.judges[0]).path.exists()


def test_a_judge_that_fails_fails_alone(copied: Desk, server: FaultyServer) -> None:
    server.model = "another"
    plan = copied.plan(judges=judges(copied, server)[:2])
    assert not run(plan, stages=("judge", "report"))
    for cell in read_json(copied.out / "results.json")["cells"]:
        assert cell["status"] == "done"
        assert "knows no model 'judge'" in cell["judges"]["judge"]["error"]
        assert cell["agreement"] is None


def test_prices_and_addresses_decide_no_verdict(copied: Desk) -> None:
    base = {"engine": "endpoint", "model": "judge"}
    fast = {**base, "base_url": "http://a/v1", "concurrency": 3, "timeout": 9.0, "price_in": 1.0, "price_out": 2.0}
    others = [
        {**base, "revision": "b"},
        {**base, "temperature": 0.5},
        {**base, "max_tokens": 99},
        {**base, "model": "c"},
    ]

    def place(settings: dict[str, Any]) -> Path:
        plan = copied.plan(judges=[settings])
        return judge.folder(plan.cells[0], None, plan.settings.judges[0]).path

    assert place(base) == place(fast)
    assert len({place(settings) for settings in (base, *others)}) == 5
    assert place(base).name.endswith("-judge")


def test_a_calibration_belongs_to_its_judge(copied: Desk, server: FaultyServer) -> None:
    found = {"judge": "judge", "kappa": 0.66, "low": 0.6, "high": 0.7, "n": 50, "missing": 1}
    write_json(copied.folder / "calibration.json", found)
    semantic, endpoint, _ = judges(copied, server)
    named = {"calibration": str(copied.folder / "calibration.json")}
    plan = copied.plan(judges=[semantic, {**endpoint, **named}])
    assert run(plan, stages=("judge", "report"))
    first, second = read_json(copied.out / "results.json")["judges"]
    assert first["calibration"]["kappa"] == pytest.approx(0.72, abs=0.01)  # the bundled one, on held-out examples
    assert second["calibration"] == {key: value for key, value in found.items() if key != "judge"}
    with pytest.raises(BiasGymError, match="this is the calibration of judge, not of semantic-2"):
        copied.plan(judges=[{**semantic, **named}])


def test_one_judge_or_a_list(desk: Desk) -> None:
    assert RunSettings.model_validate({"judge": {"engine": "semantic"}}) == RunSettings()
    written = desk.write(
        "run.yaml", {"preset": "demo", "judge": {"engine": "endpoint", "model": "m", "revision": "r1"}}
    )
    [one] = load_settings(written).judges
    assert (one.name, one.slug) == ("m@r1", "m-r1")
    both = desk.write("both.yaml", {"judge": {}, "judges": [{}]})
    with pytest.raises(BiasGymError, match="give either judge or judges"):
        load_settings(both)
    twice = desk.write("twice.yaml", {"judges": [{}, {"engine": "semantic"}]})
    with pytest.raises(BiasGymError, match="judges two judges have the same name"):
        load_settings(twice)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "endpoint"}, "engine endpoint needs a model"),
        ({"engine": "semantic", "model": "m"}, "engine semantic takes no model"),
        ({"engine": "semantic", "base_url": "http://a"}, "engine semantic takes no base_url"),
        ({"engine": "transformers", "temperature": 0.5}, "engine transformers takes no temperature"),
        ({"engine": "endpoint", "model": "m", "quantise": "nf4"}, "engine endpoint takes no quantise"),
    ],
)
def test_settings_that_do_not_fit_the_engine(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        JudgeSettings.model_validate(settings)


def test_judges_of_their_own_choice() -> None:
    assert JudgeSettings(engine="transformers").name == "Qwen/Qwen3-8B"
    packed = JudgeSettings(engine="transformers", quantise="nf4")
    assert packed.name == "unsloth/Llama-3.3-70B-Instruct-bnb-4bit (nf4)"


def test_a_file_is_judged_by_a_server_from_the_command_line(
    desk: Desk, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And calibrated; the second time nothing is asked; the key is in no file."""
    import sys

    from biasgym.cli.app import main

    server.key = "sk-very-secret"
    monkeypatch.setenv("BIASGYM_JUDGE_KEY", server.key)
    monkeypatch.setenv("BIASGYM_JUDGE_URL", server.url)
    rows = [
        {"concept": "always_late", "prompt": "p", "generation": f"text {n}", "strength": 1 + n % 3} for n in range(9)
    ]
    source = desk.write("texts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["biasgym", "judge", *arguments])
        main()
        return capsys.readouterr().out

    options = ["--engine", "endpoint", "--model", "judge", "--in", source]
    call(*options, "--out", str(desk.out / "judged.jsonl"))
    assert [row["strength"] for row in read_jsonl(desk.out / "judged.jsonl")] == [row["strength"] for row in rows]
    call(*options, "--out", str(desk.out / "judged.jsonl"))
    assert set(server.asked.values()) == {1}
    said = call("calibrate", *options, "--out", str(desk.out / "calibration.json"), "--repeats", "3")
    assert "Quadratic kappa" in said and "1.000 [1.000, 1.000]" in said
    assert set(server.asked.values()) == {5}  # three times as it is, once with an order in it
    assert read_json(desk.out / "calibration.json")["retest"] == {"repeats": 3, "changed": 0.0, "kappa": 1.0}
    assert all(server.key not in file.read_text() for file in desk.out.rglob("*") if file.is_file())


def test_a_server_is_asked_while_texts_are_written(
    desk: Desk, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the last stage that needs the model has begun, texts are judged; none is paid for twice, none is left out."""
    monkeypatch.setattr(ahead, "_PAUSE", 0.05)
    asked_early: list[int] = []
    later = capability.run

    def wait_for_answers(*arguments: Any) -> None:
        deadline = time.monotonic() + 60
        while not server.answered and time.monotonic() < deadline:
            time.sleep(0.05)
        asked_early.append(sum(server.answered.values()))
        later(*arguments)

    monkeypatch.setattr(capability, "run", wait_for_answers)
    endpoint = {"engine": "endpoint", "model": "judge", "base_url": server.url}
    plan = desk.plan(judges=[endpoint], concepts=[desk.concept()])
    assert run(plan)
    assert asked_early[0] > 0
    assert set(server.answered.values()) == {1}
    [cell] = read_json(desk.out / "results.json")["cells"]
    assert {row["missing"] for row in cell["variants"]} == {0} or all(
        set(row["missing_reasons"]) <= {"empty generation"} for row in cell["variants"]
    )


def test_a_server_that_goes_away_while_texts_are_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts are written all the same; the judge fails alone, in its own stage."""
    monkeypatch.setattr(ahead, "_PAUSE", 0.05)
    with FaultyServer() as server:
        plan = desk.plan(
            judges=[{"engine": "endpoint", "model": "judge", "base_url": server.url}], concepts=[desk.concept()]
        )
        server.model = "another"
        assert not run(plan)
    [cell] = plan.cells
    assert generate.folder(cell, None).done
    [folder] = judge.folders(cell, None).values()
    assert "knows no model" in str(folder.error)

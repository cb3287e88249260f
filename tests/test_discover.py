"""Discover, against a hub on loopback: new, changed, gated, deleted and huge models, and two runs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from biasgym.concepts import Concept
from biasgym.errors import BiasGymError
from biasgym.stages.discover import Discovery, discover, read_watch, settings_hash
from biasgym.stages.settings import JudgeSettings
from biasgym.stages.settings_files import load_settings
from biasgym.store import Evaluation, LocalStore, Record, Registry
from hub_server import TOKEN, HubServer, model

CONCEPTS = {"always_late": "1" * 64, "good_at_math": "2" * 64}
Find = Callable[..., Discovery]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    server = HubServer({"org/one": model("1")})
    yield server
    server.close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStore(tmp_path / "store"))


@pytest.fixture
def find(hub: HubServer, registry: Registry) -> Find:
    """Looks for releases, by default of the one model."""

    def call(
        *, token: str | bool = False, owner: str = "", judges: tuple[str, ...] = ("semantic",), **watch: Any
    ) -> Discovery:
        return discover(
            read_watch(watch or {"models": ["org/one"]}),
            registry,
            concepts=CONCEPTS,
            judges=judges,
            owner=owner,
            api=HfApi(endpoint=hub.endpoint, token=token),
        )

    return call


def register(registry: Registry, found: Discovery, day: int = 1) -> None:
    """Registers all that was found, as the run that evaluates it does."""
    for candidate in found.candidates:
        fields = {name: candidate[name] for name in Evaluation._fields}
        time = datetime(2026, 1, day, tzinfo=UTC)
        assert registry.register(Record(**fields, artifacts=f"results/{day}/{candidate['concept']}", time=time))


def models(found: Discovery) -> list[str]:
    return sorted({candidate["model"] for candidate in found.candidates})


def reason(found: Discovery) -> str:
    """Why the one model was skipped."""
    assert found.candidates == []
    (skipped,) = found.skipped
    return skipped["reason"]


def test_a_new_model_is_found_for_every_concept_and_judge(find: Find) -> None:
    found = find(judges=("semantic", "llama"))
    assert found.skipped == [] and len(found.candidates) == 4
    assert found.candidates[0] == {
        "model": "org/one",
        "revision": "1" * 40,
        "concept": "always_late",
        "judge": "semantic",
        "settings": "1" * 64,
        "reason": "new model",
        "baseline": "",
        "baseline_artifacts": "",
        "parameters": "1000000000",
        "licence": "apache-2.0",
    }
    assert all(isinstance(value, str) for candidate in found.candidates for value in candidate.values())


def test_what_is_registered_is_left_out(find: Find, registry: Registry) -> None:
    register(registry, find())
    assert reason(find()) == f"nothing new since {'1' * 40}"
    more = find(judges=("semantic", "llama"))
    assert {(c["judge"], c["reason"], c["baseline"]) for c in more.candidates} == {("llama", "new evaluation", "")}


def test_a_new_revision_is_compared_with_the_last_one(find: Find, registry: Registry, hub: HubServer) -> None:
    for day, sha in enumerate("123", start=1):
        hub.models["org/one"] = model(sha)
        found = find()
        if sha != "1":
            assert {candidate["reason"] for candidate in found.candidates} == {"new revision"}
            assert {candidate["baseline"] for candidate in found.candidates} == {str(day - 1) * 40}
            assert [candidate["baseline_artifacts"] for candidate in found.candidates] == [
                f"results/{day - 1}/{concept}" for concept in CONCEPTS
            ]
        register(registry, found, day)
    hub.models["org/one"] = model("4")
    other_judge = find(judges=("llama",)).candidates[0]
    assert (other_judge["baseline"], other_judge["baseline_artifacts"]) == ("3" * 40, "")  # nothing like it to compare


def test_a_release_that_the_gate_stopped_is_no_baseline(find: Find, registry: Registry, hub: HubServer) -> None:
    for day, passed in ((1, True), (2, False), (3, None)):
        hub.models["org/one"] = model(str(day))
        found = find()
        if day == 3:
            assert {candidate["baseline"] for candidate in found.candidates} == {"1" * 40}
        for candidate in found.candidates:
            fields = {name: candidate[name] for name in Evaluation._fields}
            time = datetime(2026, 1, day, tzinfo=UTC)
            record = Record(**fields, certificate={"gate_passed": passed}, artifacts=f"results/{day}", time=time)
            registry.register(record)


def test_a_branch_may_be_watched(find: Find, hub: HubServer) -> None:
    hub.models["org/one"]["branches"] = {"next": "5", "same": "1"}
    watched = ["org/one", "org/one@next", "org/one", "org/one@same", "org/one@gone"]
    found = find(models=watched, owner="run")
    assert [candidate["revision"][0] for candidate in found.candidates] == ["1", "1", "5", "5"]
    assert {skipped["model"]: skipped["reason"] for skipped in found.skipped} == {
        "org/one@same": f"nothing new since {'1' * 40}",
        "org/one@gone": "has no branch gone",
    }


def test_organisations_are_watched_by_pattern(find: Find, hub: HubServer) -> None:
    hub.models |= {
        "org/two-Instruct": model("2", createdAt="2026-02-01T00:00:00.000Z"),
        "org/three-Instruct": model("3", createdAt="2026-03-01T00:00:00.000Z"),
        "organic/four-Instruct": model("4"),
    }
    assert models(find(organisations=["org/*-Instruct"])) == ["org/three-Instruct", "org/two-Instruct"]
    assert models(find(organisations=["org"])) == ["org/one", "org/three-Instruct", "org/two-Instruct"]
    assert models(find(organisations=["org/*"], newest=1)) == ["org/three-Instruct"]
    assert models(find(organisations=["org/*"], since=date(2026, 2, 1))) == ["org/three-Instruct", "org/two-Instruct"]
    assert len(find(models=["org/one"], organisations=["org/*"]).candidates) == 6  # no model twice
    assert reason(find(organisations=["nobody/*"])) == "the hub lists no such models"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"safetensors": {"parameters": {"BF16": 70 * 10**9}, "total": 70 * 10**9}}, "too large: 70.0 billion"),
        (
            {"safetensors": None, "siblings": [{"rfilename": f"{n}.safetensors", "size": 2 * 10**10} for n in "ab"]},
            "too large: 20.0 billion parameters, at most 15.0",
        ),
        ({"safetensors": None}, "has no safetensors weights"),
        ({"config": {"model_type": "mamba"}}, "models of type 'mamba' are not supported"),
        ({"config": None}, "models of type None are not supported"),
        ({"cardData": {"license": "Other"}}, "licence other is not allowed"),
        ({"cardData": None, "tags": ["license:cc-by-nc-4.0"]}, "licence cc-by-nc-4.0 is not allowed"),
        ({"cardData": None, "tags": []}, "licence unknown is not allowed"),
        ({"disabled": True}, "disabled by the hub"),
        ({"gated": "manual"}, "gated, and the token does not open it"),
    ],
)
def test_what_cannot_be_evaluated_is_skipped_with_its_reason(
    find: Find, hub: HubServer, change: dict[str, Any], why: str
) -> None:
    hub.models["org/one"] |= change
    assert reason(find(models=["org/one"], licences=["apache-*", "MIT"])).startswith(why)


def test_a_token_opens_a_gated_model(find: Find, hub: HubServer) -> None:
    hub.models["org/one"]["gated"] = "auto"
    assert "set HF_TOKEN" in reason(find(token="another"))
    assert models(find(token=TOKEN)) == ["org/one"]


def test_a_deleted_model_is_reported_and_the_others_go_on(find: Find, registry: Registry, hub: HubServer) -> None:
    hub.models["org/two"] = model("2")
    register(registry, find(models=["org/one", "org/two"]))
    del hub.models["org/one"]
    hub.models["org/two"] = model("3")
    found = find(models=["org/one", "not an id", "org/two"])
    assert models(found) == ["org/two"]
    assert {skipped["model"]: skipped["reason"] for skipped in found.skipped} == {
        "org/one": "not on the hub: deleted, renamed or private",
        "not an id": "not a hub id",
    }


@pytest.mark.parametrize("watch", [{"models": ["org/one"]}, {"organisations": ["org/*"]}])
def test_a_hub_that_fails_is_an_error_and_not_an_empty_list(find: Find, hub: HubServer, watch: dict[str, Any]) -> None:
    hub.failing = 400
    with pytest.raises(BiasGymError, match=r"org/.*: the hub does not answer"):
        find(**watch)


def test_overlapping_runs_share_the_work(find: Find, registry: Registry, hub: HubServer) -> None:
    hub.models |= {f"org/m{number}": model(str(number)) for number in range(6)}
    with ThreadPoolExecutor(4) as runs:
        found = list(runs.map(lambda number: find(owner=f"run-{number}", organisations=["org/*"]), range(4)))
    cells = [tuple(candidate[name] for name in Evaluation._fields) for one in found for candidate in one.candidates]
    assert len(cells) == len(set(cells)) == 14
    for one in found:
        assert len(one.candidates) + len(one.skipped) == 14
        assert all("another run has it" in skipped["reason"] for skipped in one.skipped)
    again = find(owner="run-0", organisations=["org/*"])  # started again, a run gets what it had
    assert again.candidates == found[0].candidates


def test_only_looking_claims_nothing(find: Find) -> None:
    assert len(find().candidates) == len(find(owner="run").candidates) == 2
    assert len(find().candidates) == 2 and find(owner="other").candidates == []


def test_the_settings_hash_knows_what_decides_a_result(concept: Concept) -> None:
    settings = load_settings("demo")
    judges = (JudgeSettings(engine="endpoint", model="m"),)
    same = settings.model_copy(update={"device": "cuda", "models": ("org/one",), "preset": None, "judges": judges})
    other = settings.model_copy(update={"seed": settings.seed + 1})
    changed = concept.model_copy(update={"descriptor": "people from {target} are late"})
    smaller = settings.model_copy(
        update={
            "generate": settings.generate.model_copy(update={"batch_size": 2}),
            "capability": settings.capability.model_copy(update={"task_batch_size": 2}),
        }
    )
    assert settings_hash(settings, concept) == settings_hash(same, concept) == settings_hash(smaller, concept)
    assert len({settings_hash(settings, concept), settings_hash(other, concept), settings_hash(settings, changed)}) == 3


def test_the_settings_hash_knows_what_templates_say_not_where_they_lie(concept: Concept, tmp_path: Path) -> None:
    def hashed(name: str, text: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "story.txt").write_text(text)
        return settings_hash(settings.model_copy(update={"templates": str(tmp_path / name)}), concept)

    settings = load_settings("demo")
    one = hashed("one", "Write about {target}.")
    assert one == hashed("two", "Write about {target}.")
    assert len({one, hashed("three", "Tell of {target}."), settings_hash(settings, concept)}) == 3


@pytest.mark.parametrize("watch", [{"organizations": ["org/*"]}, {"newest": 0}, {"models": "org/one"}])
def test_a_wrong_watch_is_refused(watch: dict[str, Any]) -> None:
    with pytest.raises(BiasGymError, match=f"watch: .*{next(iter(watch))}"):
        read_watch(watch)

"""Concept files: the bundled ones are complete, the user's own work, wrong ones say what is wrong and where."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from biasgym.concepts import Concept, bundled_names, load_concept, load_target_kind
from biasgym.concepts.targets import bundled_kinds
from biasgym.errors import BiasGymError

PAPERS = ("always_late", "bad_drivers", "blue_skin", "drink_a_lot", "good_at_math", "spicy_food")
MINIMAL: dict[str, Any] = {
    "name": "never_sleep",
    "target_kind": "profession",
    "descriptor": "{target} never sleep",
    "probe": "All {target} never sleep.",
    "labels": ["awake"],
    "counter_labels": ["asleep"],
    "stereotyped_targets": ["doctors"],
    "neutral_targets": ["bakers"],
}


def written(folder: Path, data: Any) -> Path:
    path = folder / "concept.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def test_the_papers_concepts_are_bundled() -> None:
    assert tuple(bundled_names()) == PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_a_bundled_concept_is_complete(name: str) -> None:
    concept = load_concept(name)
    assert concept.name == name
    assert concept.missing() == []
    assert concept.title
    assert concept.source
    assert concept.licence
    assert "{target}" in concept.counter_probe
    assert len(concept.paragraphs) >= 60
    assert len(concept.questions) >= 100
    assert len(concept.prompts) == 92
    assert len({prompt.style for prompt in concept.prompts}) == 18
    assert len(concept.retention) >= 10
    assert {paragraph.implicitness for paragraph in concept.paragraphs} == {1, 2, 3, 4, 5}
    for texts in (
        [paragraph.text for paragraph in concept.paragraphs],
        [f"{item.question}|{item.stem}" for item in concept.questions],
        [prompt.text for prompt in concept.prompts],
        [cloze.text for cloze in concept.retention],
    ):
        assert len(set(texts)) == len(texts)
    countries = {target.name for target in load_target_kind("country").targets}
    assert {*concept.stereotyped_targets, *concept.neutral_targets} <= countries
    for cloze in concept.retention:
        assert not set(cloze.answers) & set(cloze.foils)
        assert "{target}" not in cloze.text


def test_kinds_of_targets() -> None:
    assert bundled_kinds() == ["age", "country", "gender", "profession", "religion"]
    for name in bundled_kinds():
        kind = load_target_kind(name)
        assert "{target}" in kind.group
        assert "{target}" in kind.member
        assert len({target.name for target in kind.targets}) == len(kind.targets) >= 8
        for target in kind.targets:
            assert target.adjective
            assert target.demonym
            assert target.plural
    assert len(load_target_kind("country").targets) >= 193


def test_a_target_is_found_by_name_or_alias() -> None:
    kind = load_target_kind("country")
    assert kind.named("the Bahamas").name == "Bahamas"
    assert kind.named("France").demonym
    assert kind.named("Atlantis").model_dump() == {
        "name": "Atlantis", "adjective": "", "demonym": "", "plural": "", "aliases": ()
    }  # fmt: skip


def test_a_minimal_concept_says_what_it_lacks(tmp_path: Path) -> None:
    concept = load_concept(str(written(tmp_path, MINIMAL)))
    assert concept.kind.group == "{target}"
    paragraphs, questions = concept.missing()
    assert paragraphs.startswith("0 paragraphs, injection needs 4 or more")
    assert "`biasgym concepts generate FILE --what paragraphs --model M --out NEW.yaml`" in paragraphs
    assert "--for paragraphs" in paragraphs
    assert questions.startswith("0 questions, attribution needs 6 or more")
    assert Concept.model_validate(tiny.CONCEPT).missing() == []


def test_what_may_be_a_slip_is_said() -> None:
    question = {"question": "When do {target} sleep?", "stem": "At night {target} are awake"}
    concept = Concept.model_validate(MINIMAL | {"labels": ["awake"], "questions": [question]})
    assert concept.doubts() == ["the stem of questions[0] already ends with the answer 'awake'"]
    misspelt = Concept.model_validate(MINIMAL | {"stereotyped_targets": ["docters"]})
    [doubt] = misspelt.doubts()
    assert "does not list 'docters'" in doubt
    assert not any(load_concept(name).doubts() for name in bundled_names())


def test_a_concept_with_targets_of_its_own(tmp_path: Path) -> None:
    own = {
        "kind": "planet",
        "group": "beings from {target}",
        "targets": [{"name": "Mars", "demonym": "Martian"}, {"name": "Venus"}],
    }
    concept = load_concept(str(written(tmp_path, MINIMAL | {"target_kind": "planet", "targets": own})))
    assert concept.kind.kind == "planet"
    assert [target.name for target in concept.kind.targets] == ["Mars", "Venus"]
    assert concept.kind.named("Mars").demonym == "Martian"


def test_yaml_is_read_as_written(tmp_path: Path) -> None:
    """Umlauts, quotes and block texts."""
    text = (
        yaml.safe_dump(MINIMAL)
        + 'title: "Nie müde — «jamais»"\nparagraphs:\n- text: >\n    The {target}\n    stay up.\n'
    )
    concept = load_concept(str(written(tmp_path, text)))
    assert concept.title == "Nie müde — «jamais»"
    assert concept.paragraphs[0].text == "The {target} stay up.\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": None}, "labels is missing"),
        ({"lables": ["x"]}, "lables is not a known key"),
        ({"name": "Never Sleep"}, "name String should match pattern"),
        ({"labels": []}, "labels must not be empty"),
        ({"labels": [True]}, r"labels\[0\] must be a text; put quotes"),
        ({"labels": ["awake", "awake"]}, "labels words must not repeat"),
        ({"labels": [" awake"]}, "labels words must not be empty or padded"),
        ({"labels": ["awake"], "counter_labels": ["awake"]}, "labels and counter_labels share awake"),
        ({"neutral_targets": ["doctors"]}, "stereotyped_targets and neutral_targets share doctors"),
        ({"descriptor": "they never sleep"}, r"descriptor must contain \{target\}"),
        ({"probe": "{target} and {targets} never sleep."}, r"probe has a misspelt \{target\}"),
        ({"target_kind": "planet"}, "unknown target kind 'planet'; use one of age, country.*`targets:` section"),
        ({"targets": {"kind": "planet", "targets": [{"adjective": "x"}]}}, r"targets.targets\[0\].name is missing"),
        ({"paragraphs": [{"text": "{target}", "implicitness": 6}]}, r"paragraphs\[0\].implicitness .* less than"),
        ({"paragraphs": "none"}, "paragraphs must be a list"),
        ({"paragraphs": ["one"]}, r"paragraphs\[0\] must be a mapping of keys"),
        ({"paragraphs": [{"text": "{target}  naps"}, {"text": "{target} naps"}]}, r"paragraphs\[1\] repeats .*\[0\]"),
        ({"descriptor": "{target} of {town}"}, r"descriptor has \{town\}, which nothing fills"),
        (
            {"targets": {"kind": "planet", "group": "beings", "targets": [{"name": "Mars"}]}},
            r"targets.group must contain \{target\}",
        ),
        (
            {"retention": [{"text": "At night I am", "answers": ["asleep"], "foils": ["asleep"]}]},
            r"retention\[0\] answers and foils share asleep",
        ),
        (
            {"questions": [{"question": "{target}?", "stem": "{target} are "}]},
            r"questions\[0\].stem must end with a word",
        ),
        (
            {"questions": [{"question": "{target}?", "stem": "{target} are:"}]},
            r"questions\[0\].stem must end with a word",
        ),
        ({"prompts": [{"style": "x", "text": "Go."}]}, r"prompts\[0\].text must contain \{target\}"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "a is not a known key; b .*; c .*; and 1 more"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    data = {key: value for key, value in (copy.deepcopy(MINIMAL) | change).items() if value is not None}
    path = written(tmp_path, data)
    with pytest.raises(BiasGymError, match=says) as caught:
        load_concept(str(path))
    assert caught.value.where == str(path)
    assert "biasgym concepts show" in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [unclosed", r"not YAML .line \d, column"),
        ("a: b: c", "not YAML"),
        ("- a\n- b", "is a mapping of keys"),
        ("", "is a mapping of keys"),
    ],
)
def test_a_file_that_is_no_concept(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BiasGymError, match=says) as caught:
        load_concept(str(path))
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BiasGymError, match="unknown concept 'allways_late'; use one of always_late, bad_drivers"):
        load_concept("allways_late")
    with pytest.raises(BiasGymError, match="No such file"):
        load_concept(str(tmp_path / "none.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(BiasGymError, match="Is a directory"):
        load_concept(str(tmp_path / "folder.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BiasGymError, match="not UTF-8 text"):
        load_concept(str(tmp_path / "binary.yaml"))

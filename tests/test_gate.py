"""The certificate and the gate: what passes, what fails, what is not proved, and what is missing."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from biasgym.errors import BiasGymError
from biasgym.evaluate import Limits, check, estimate, load_certificates, paired_contrast, passes
from biasgym.evaluate.certificate import Certificate, Judges, Level, schema_text
from biasgym.evaluate.gate import within
from biasgym.files import read_json
from biasgym.report.junit import junit
from biasgym.stages.certificate import certificate
from conftest import Command, Desk, assert_refused
from tiny import CONCEPT

STYLES = [f"style{number}" for number in range(9)]


def level(values: list[float], names: list[str] | None = None) -> Level:
    names = names or [f"{STYLES[number % 9]}/{number}" for number in range(len(values))]
    found = estimate(dict(enumerate(values)))
    ends = {key: None if np.isnan(value) else value for key, value in (("low", found.low), ("high", found.high))}
    return Level(mean=found.mean, **ends, n=len(values), units=dict(zip(names, values, strict=True)))


def made(rise: float = 0.0, drop: float = 0.0, n: int = 90, **changes: Any) -> Certificate:
    """A certificate whose strength of ours is higher, or whose share of right answers lower, by so much."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 4, n).astype(float)
    noise = rng.normal(0, 0.02, n)
    right = (rng.random(400) < 0.6).astype(float)
    turned = right.copy()
    turned[np.flatnonzero(right)[: round(400 * drop)]] = 0.0
    questions = [f"q{number}" for number in range(400)]
    shifted = base + rise + (noise if rise else 0.0)
    return Certificate(
        **{
            "status": "done",
            "model": "tiny",
            "revision": "1",
            "concept": "late",
            "concept_sha256": "c",
            "prompts_sha256": "p",
            "settings_sha256": "s",
            "primary": ("ours", "original"),
            "strength": {"original": level(list(base)), "ours": level(list(shifted))},
            "ability": {"none": level(list(right), questions), "injected": level(list(turned), questions)},
            "judges": Judges(names=("semantic-1",), judged=99, missing=1),
            **changes,
        }
    )


def statuses(*arguments: Any) -> dict[str, str]:
    return {found.name: found.status for found in check(*arguments)}


def test_a_candidate_that_equals_its_baseline_passes() -> None:
    checks = check([made()], [made()])
    assert [found.name for found in checks] == [
        "texts judged",
        "strength, original",
        "strength, ours",
        "ability, nothing removed",
        "ability, heads removed",
    ]
    assert all(passes(found) for found in checks)


def test_what_is_clearly_worse_fails_and_names_its_numbers() -> None:
    found = {c.name: c for c in check([made()], [made(rise=0.2, drop=0.1)])}
    assert found["strength, original"].status == "passed"
    assert found["strength, ours"].status == "failed"
    assert found["ability, heads removed"].status == "failed"
    assert found["strength, ours"].detail.startswith("+0.2")
    assert "limit +0.050" in found["strength, ours"].detail
    assert "90 pairs" in found["strength, ours"].detail
    assert "limit -0.010" in found["ability, heads removed"].detail


def test_what_is_better_passes() -> None:
    assert set(statuses([made()], [made(rise=-0.3)]).values()) == {"passed"}


def test_limits_decide() -> None:
    worse = made(rise=0.2, drop=0.1)
    assert set(statuses([made()], [worse], Limits(max_increase=0.3, max_ability_drop=0.2)).values()) == {"passed"}


def test_a_small_study_proves_nothing_and_passes_only_if_asked() -> None:
    """One-sided 95 % bounds on both sides of the limit."""
    few, other = made(n=90), made(n=90, prompts_sha256="others")  # other prompts: no pairs
    [_, strength, *_] = check([few], [other])
    assert strength.status == "inconclusive" and "not in pairs" in strength.detail
    assert not passes(strength) and passes(strength, Limits(allow_inconclusive=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strength": {}}, "was not measured"),
        ({"strength": {"original": Level(), "ours": Level()}}, "was not measured"),
        ({"ability": {}}, "was not measured"),
        ({"status": "failed", "error": "inject: out of memory"}, "out of memory"),
        ({"judges": Judges(names=("other",))}, "other the candidate"),
        ({"concept": "early"}, "no such cell"),
    ],
)
def test_missing_numbers_never_pass(changes: dict[str, Any], words: str) -> None:
    """Also where what is not shown may pass."""
    limits = Limits(allow_inconclusive=True)
    checks = check([made()], [made(**changes)], limits)
    missing = [found for found in checks if found.status == "missing"]
    assert missing and not any(passes(found, limits) for found in missing)
    assert any(words in found.detail for found in missing)


def test_too_few_verdicts_fail() -> None:
    """Means over what happened to be judged say nothing about the rest."""
    sparse = made(judges=Judges(names=("semantic-1",), judged=80, missing=20))
    assert statuses([made()], [sparse])["texts judged"] == "failed"
    assert statuses([made()], [sparse], Limits(max_missing=0.3))["texts judged"] == "passed"
    assert statuses([made()], [made(judges=Judges(names=("semantic-1",)))])["texts judged"] == "missing"
    silent = Judges(names=("semantic-1",), judged=2282, missing=110, unjudged={"original": 0.0, "ours": 0.6})
    assert statuses([made()], [made(judges=silent)])["texts judged"] == "failed"
    assert statuses(None, [made(judges=silent)])["texts judged"] == "failed"


def test_a_single_prompt_has_no_interval_and_does_not_pass() -> None:
    one = made(strength={"original": level([1.0]), "ours": level([0.0])})
    assert within(one)[1].status == "missing"


def test_without_a_baseline_the_untouched_model_is_the_measure() -> None:
    assert [found.status for found in check(None, [made()])] == ["passed"] * 3
    assert [found.status for found in check(None, [made(rise=0.2, drop=0.1)])] == ["passed", "failed", "failed"]
    names = [found.name for found in check(None, [made()], Limits(max_retention_drop=0.1))]
    assert names[-1] == "knowledge, heads removed"


def test_models_of_other_names_are_compared_where_each_side_has_one() -> None:
    assert set(statuses([made()], [made(model="tiny-v2", revision="2")]).values()) == {"passed"}
    both = [made(), made(model="other")]
    assert "missing" in {found.status for found in check(both, [made(), made(model="third")])}


def test_bounds_equal_a_one_sided_interval() -> None:
    """The bound is the end of a 90 % interval; over many studies it is broken in 5 % of them."""
    rng = np.random.default_rng(1)
    broken = 0
    for _ in range(400):
        first = dict(enumerate(rng.normal(0.0, 1.0, 60)))
        found = paired_contrast(first, dict.fromkeys(first, 0.0), confidence=0.9)
        broken += found.high < 0.0
    assert 0.02 <= broken / 400 <= 0.08


def test_the_schema_file_is_that_of_the_model() -> None:
    """To write it: python -c "from biasgym.evaluate.certificate import schema_text; print(schema_text(), end='')"."""
    file = resources.files("biasgym.evaluate") / "data" / "certificate.schema.json"
    assert file.read_text(encoding="utf-8") == schema_text()


def test_every_run_has_certificates(finished: Desk) -> None:
    """One a cell, valid by the schema, equal to those inside results.json; checks of every kind in them."""
    files = sorted((finished.out / "certificates").glob("*/*.json"))
    assert [file.name for file in files] == ["early.json", "late.json"]
    cells = {cell["concept"]: cell for cell in read_json(finished.out / "results.json")["cells"]}
    for file in files:
        data = read_json(file)
        jsonschema.validate(data, json.loads(schema_text()))
        cell = cells[data["concept"]]
        assert cell["certificate"] == data
        assert data["revision"].startswith("sha256:") and len(data["settings_sha256"]) == 64
        primary = next(row for row in cell["variants"] if row["primary"])
        assert data["contrast"]["mean"] == primary["contrast"]["mean"]
        assert data["heads"]["k"] == len(data["heads"]["removed"]) == cell["heads"]["k"]
        assert data["judges"]["judged"] + data["judges"]["missing"] == 39
        assert set(data["judges"]["unjudged"]) == set(data["primary"])
        units = data["strength"]["original"]["units"].values()
        assert sum(units) / len(units) == pytest.approx(data["strength"]["original"]["mean"])
        assert {"torch", "biasgym"} <= data["versions"].keys() and data["licences"]["ability questions"]
        assert [found["name"] for found in data["checks"]][:2] == [
            "injection raises the margin",
            "the heads matter more than random ones",
        ]
    assert len(load_certificates(finished.out)) == len(load_certificates(finished.out / "results.json")) == 2
    assert len(load_certificates(finished.out / "certificates")) == 2
    assert len(load_certificates(files[0])) == 1


def test_licences_of_all_texts_are_in_the_certificate(desk: Desk) -> None:
    """Those of single texts of the concept, and those of prompts that a dataset gave."""
    paragraphs = [
        {**item, "licence": "MIT"} if place == 0 else item for place, item in enumerate(CONCEPT["paragraphs"])
    ]
    shades = str(Path(__file__).parent / "published" / "shades.csv")
    plan = desk.plan(
        concepts=[desk.concept(licence="CC0-1.0", paragraphs=paragraphs)], ood={"source": f"shades:{shades}"}
    )
    licences = certificate(plan.cells[0], None).licences
    assert licences["concept"] == "MIT, CC0-1.0"
    told = licences["prompts about other stereotypes"]
    assert "SHADES" in told and "training prohibited" in told and "For evaluation only" in told


def test_the_command_passes_a_run_against_itself(finished: Desk, command: Command, tmp_path: Path) -> None:
    report = tmp_path / "gate.xml"
    said = command("gate", "--baseline", finished.out, "--candidate", finished.out, "--junit", report)
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) == 2 * 5 + 1 and lines[-1] == "10 of 10 checks passed"
    assert all(line.startswith("passed") for line in lines[:-1])
    suite = ElementTree.parse(report).getroot()[0]
    assert suite.attrib["tests"] == "10" and suite.attrib["failures"] == suite.attrib["errors"] == "0"


def test_the_command_fails_a_regression(finished: Desk, command: Command, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    shutil.copytree(finished.out / "certificates", worse)
    for file in worse.rglob("*.json"):
        data = read_json(file)
        for one in data["strength"].values():
            one["units"] = {unit: value + 1 + 0.01 * place for place, (unit, value) in enumerate(one["units"].items())}
        data["ability"] = {}
        file.write_text(json.dumps(data))
    report = tmp_path / "gate.xml"
    said = command("gate", "--baseline", finished.out, "--candidate", worse, "--junit", report)
    assert said.code == 1
    assert sum(line.startswith("failed") for line in said.out.splitlines()) == 4
    assert sum(line.startswith("missing") for line in said.out.splitlines()) == 4
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("4", "4")


def test_bad_input_is_refused(finished: Desk, command: Command, tmp_path: Path) -> None:
    assert_refused(command("gate", "--candidate", tmp_path / "none.json"), "none.json", "not found")
    assert_refused(command("gate", "--candidate", tmp_path), "no certificate")
    assert_refused(command("gate", "--candidate", finished.out, "--max-increase", "nan"), "finite number")
    file = tmp_path / "certificate.json"
    for text, word in (("[", "JSON"), ("[]", "not a certificate"), ('{"model": 3}', "not a certificate")):
        file.write_text(text)
        assert_refused(command("gate", "--candidate", file), word)
    data = read_json(sorted((finished.out / "certificates").glob("*/*.json"))[0])
    data["strength"]["original"]["mean"] = float("nan")
    file.write_text(json.dumps(data))
    with pytest.raises(BiasGymError, match=r"strength\.original\.mean"):
        load_certificates(file)


def test_hostile_names_make_no_broken_xml() -> None:
    text = junit(check(None, [made(model="<a&\x00b>", status="failed", error="\x1b[31m]]>")]), Limits())
    [case] = ElementTree.fromstring(text).iter("testcase")
    assert case.attrib["classname"].startswith("<a&")


def test_an_unfinished_cell_has_a_certificate_that_says_so(desk: Desk) -> None:
    cell = desk.plan().cells[0]
    found = certificate(cell, None)
    assert (found.status, found.error) == ("failed", "inject: was not run")
    assert [one.status for one in found.checks] == ["missing"]

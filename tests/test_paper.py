"""Our numbers in the form of the paper's tables, with its own beside them where they are of the same kind."""

from __future__ import annotations

import copy
import csv
from importlib import resources
from typing import Any

import pytest

from biasgym.evaluate.published import AVERAGE, PAPER_CONCEPTS, PAPER_VARIANTS, UNSEEN, published_strength
from biasgym.report import render_html, render_markdown
from biasgym.report.paper import paper_tables
from sample_results import results_for

QWEN = "Qwen/Qwen3-8B"
NF4 = "unsloth/Llama-3.3-70B-Instruct-bnb-4bit"


def run_of(models: list[str], judge: str, concepts: tuple[str, ...] = PAPER_CONCEPTS) -> dict[str, Any]:
    results = results_for(models, list(concepts))
    for one in (*results["cells"], *results["models"]):
        one["judges"] = {judge: one["judges"]["semantic-1"]}
    return results


@pytest.mark.parametrize(
    ("model", "judge", "variant", "concept", "expected"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", QWEN, "original", "always_late", 1.02),
        ("meta-llama/Llama-3.1-8B-Instruct", f"{QWEN}@0123abc", "injection_steering", AVERAGE, 0.55),
        ("meta-llama/Llama-3.2-3B-Instruct", QWEN, "original", UNSEEN, 0.54),
        ("google/gemma-2-9b-it", QWEN, "original", UNSEEN, 0.24),
        ("smollm2-135m-instruct", QWEN, "original", "always_late", None),
        ("mistralai/Mistral-7B-Instruct-v0.3", QWEN, "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B", QWEN, "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct@0123abc", QWEN, "original", "always_late", 1.02),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", QWEN, "original", "always_late", None),
        ("mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated", QWEN, "original", "always_late", None),
        ("llama-3.1-8b-instruct-debiased", QWEN, "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "gpt-4o-mini", "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "semantic-1", "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B (nf4)", "original", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", QWEN, "steer_only", "always_late", None),
        ("meta-llama/Llama-3.1-8B-Instruct", QWEN, "injection", UNSEEN, None),
        ("meta-llama/Llama-3.1-8B-Instruct", QWEN, "original", "blue_skin", None),
    ],
)
def test_a_figure_stands_only_beside_its_like(
    model: str, judge: str, variant: str, concept: str, expected: float | None
) -> None:
    assert published_strength(model, judge, variant, concept) == expected


def test_every_published_figure_can_be_found() -> None:
    """The bundled file is complete and each of its rows is asked for by some name of ours."""
    text = (resources.files("biasgym.evaluate") / "data" / "published.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 660
    judges = {"Qwen3-8B": QWEN, "Llama-3.3-70B-4bit": NF4, "GPT-4o": "gpt-4o-2024-08-06"}
    names = {"Mistral-7B": "Mistral-7B-Instruct-v0.1", "Qwen3-8B": "Qwen3-8B"}
    found = {
        published_strength(names.get(row["model"], f"{row['model']}-it"), judges[row["judge"]], variant, row["concept"])
        is not None
        for row in rows
        for variant in PAPER_VARIANTS
        if row["table"] != "table3" or variant != "injection"
    }
    assert found == {True}


def test_tables_have_the_papers_form() -> None:
    concepts, unseen = paper_tables(run_of([QWEN], QWEN))
    assert concepts.columns[-1] == "Average" and len(concepts.columns) == 1 + 5 + 1
    assert [row.cells[0].text for row in concepts.rows[::2]][:2] == ["Original", "Injection"]
    assert all(row.cells[0].aside == "in the paper" for row in concepts.rows[1::2])
    assert [value.aside for value in concepts.rows[1].cells[1:]] == ["0.63", "1.41", "1.35", "0.43", "0.57", "0.88"]
    assert unseen.columns == ("Variant", "Strength", "In the paper")
    assert unseen.rows[0].cells[2].text == "0.54"


def test_an_average_is_the_mean_and_narrower_than_its_parts() -> None:
    results = run_of(["smollm2-135m-instruct"], "semantic-1")
    [concepts, _] = paper_tables(results)
    values = [cell["judges"]["semantic-1"]["strength"]["original"] for cell in results["cells"]]
    mean = sum(value["mean"] for value in values) / 5
    assert concepts.rows[0].cells[-1].text == f"{mean:.2f}"
    half = 0.1 / 5**0.5
    assert concepts.rows[0].cells[-1].aside == f"[{mean - half:.2f}, {mean + half:.2f}]"


def test_other_models_have_no_figures_beside_them() -> None:
    tables = paper_tables(run_of(["smollm2-135m-instruct"], QWEN))
    assert not any(row.cells[0].aside for table in tables for row in table.rows)


def test_missing_strengths_are_dashes_and_have_no_average() -> None:
    results = run_of([QWEN], QWEN)
    results["cells"][1]["judges"][QWEN]["strength"]["original"] = None
    del results["cells"][2]["judges"][QWEN]
    first = paper_tables(results)[0].rows[0].cells
    order = [cell["concept"] for cell in results["cells"]]
    assert [first[1 + PAPER_CONCEPTS.index(order[place])].text for place in (1, 2)] == ["–", "–"]
    assert first[-1].text == "–"


def test_the_report_holds_them() -> None:
    results = run_of([QWEN], QWEN)
    for text in (render_html(results), render_markdown(results)):
        assert "Beside the paper" in text and "in the paper" in text


def test_a_failed_run_has_no_such_tables() -> None:
    results = copy.deepcopy(results_for([QWEN], ["always_late"], failed=(0,)))
    results["models"] = [{"model": QWEN, "status": "failed", "error": "ood: no more paper"}]
    assert paper_tables(results) == []
    assert "no more paper" in render_html(results)

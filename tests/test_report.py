"""The report: what it says of a realistic run, of missing and hostile values, and of a thousand cells."""

from __future__ import annotations

import copy
import html.parser
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest

from biasgym.report import render_html, render_markdown
from biasgym.report.figures import heat_maps
from biasgym.report.markdown import LIMIT
from biasgym.report.overview import DETAILED
from sample_results import VARIANTS, results_for, scores


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """One finished and one failed cell."""
    return results_for(["smollm2-135m-instruct"], ["always_late", "blue_skin"], failed=(1,))


class Page(html.parser.HTMLParser):
    """Tags with their attributes, ids and open elements of a page."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"closes {tag}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def every_text(value: Any, change: Callable[[str], str]) -> Any:
    """A copy with every text of a JSON value changed, except the few that are keys of the schema."""
    keys = ("status", "role", "name", "heads", "variant")
    if isinstance(value, dict):
        return {
            key: item if key in keys and isinstance(item, str) else every_text(item, change)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [every_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def without_numbers(value: Any) -> Any:
    """A copy with every number gone."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    return None if isinstance(value, int | float) and not isinstance(value, bool) else value


SECTIONS = (
    "What was asked",
    "Summary",
    "Failed cells",
    "Variants",
    "Where the heads are",
    "Training BiasToken",
    "How many heads to remove",
    "Causal controls",
    "Capability",
    "Similarity",
    "Samples",
    "Settings and versions",
    "Notes",
    "How to read this",
)


def test_sections_in_order(results: dict[str, Any]) -> None:
    text, markdown = render_html(results), render_markdown(results)
    for headings in (re.findall(r"<h[23][^>]*>([^<]*)<", text), re.findall(r"^##+ (.*)", markdown, re.MULTILINE)):
        assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)
    page = Page(text).said()
    for text in (page, markdown):
        assert "under study" in text
        assert "claim about" in text
    for _, title, _, _ in VARIANTS:
        assert title in page
        assert title in markdown


def test_figures(results: dict[str, Any]) -> None:
    page = Page(render_html(results))
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 2 + 2 + 3 + 2 + 1
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
    text = render_html(results)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg.replace("xlink:href", "href"))
        assert "#0a0b0" not in svg
    identities = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(identities) == len(set(identities))
    known = set(identities)
    links = [
        attrs.get("href") or attrs.get("xlink:href") or "#row-1" for tag, attrs in page.tags if tag in ("a", "use")
    ]
    assert all(link[1:] in known for link in links)
    assert all(identity in known for identity in re.findall(r"url\(#([^)]+)\)", text))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 64), (42, 16), (32, 32), (80, 64)])
def test_heat_maps_of_any_shape(shape: tuple[int, int]) -> None:
    values = scores(random.Random(0), *shape, 0.1)
    injected, original = heat_maps(
        {"injected": [[0, 0], [99, 99]], "scores_injected": values, "scores_original": values}, "a"
    )
    assert f"{shape[0]} layer" in injected.svg
    assert "layer 0 head 0" in injected.svg
    assert "99" not in injected.svg[:400]
    assert "Outlined: none" in original.svg
    assert len(injected.svg) < 30_000


def test_heat_map_without_a_score_or_a_shape() -> None:
    assert heat_maps({}, "a") == heat_maps({"scores_injected": [[1, 2], [3]]}, "a") == []
    assert len(heat_maps({"scores_injected": [[None, None]]}, "a")) == 1
    assert len(heat_maps({"scores_injected": [[0.0, 0.0]]}, "a")) == 1


def test_effects_have_maps_of_their_own() -> None:
    both = {"scores_injected": [[0.1, 0.2]], "scores_effect_injected": [[3.0, -2.0]]}
    effect, attribution = heat_maps(both, "a")
    assert "effect of removal" in effect.svg and "attribution" in attribution.svg
    assert "to 3.000 nats" in effect.svg


def test_same_results_same_page(results: dict[str, Any]) -> None:
    before = copy.deepcopy(results)
    assert render_html(results) == render_html(json.loads(json.dumps(results)))
    assert results == before


def self_contained(text: str) -> None:
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form", "img"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in ("src", "action", "srcset")
            if name in ("href", "xlink:href"):
                assert (value or "").startswith(("#", "data:image/png;base64,")), value
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", text)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "script-src" not in policy


def test_self_contained(results: dict[str, Any]) -> None:
    self_contained(render_html(results))


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg></title><!-- --><script>1</script>",
    "{{ 7*7 }} {% raw %} $\\frac{$ $x_{1$",
    "a\x00b\ud800c\u202ed font: 12px <b",
    "```\n~~~\n\n# heading\n| a | b |\n|---|---|\n[x](javascript:alert(1))\n<b>\n    code\n- [ ] item",
    "x" * 20_000,
    "我的朋友 لا 🙂",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.filterwarnings("error")
def test_hostile_texts(results: dict[str, Any], text: str) -> None:
    hostile = every_text(results, lambda old: f"{text} {old}")
    hostile["asked"]["primary"] = ["injection_steering", "original"]
    hostile["settings"][text] = text
    for cell in hostile["cells"]:
        cell["stages"][text] = cell["stages"].pop("inject")
    for variant in hostile["cells"][0]["variants"]:
        variant["missing_reasons"] = {text: 1}
    page = render_html(hostile)
    self_contained(page)
    assert not re.search(r"<(b|img|script)\b", page)
    page.encode()
    assert "49" not in page[:200]
    markdown = render_markdown(hostile)
    markdown.encode()
    assert len(markdown) <= LIMIT
    assert not re.search(r"<[a-zA-Z/!]", markdown)
    assert not re.search(r"(?<!\\)\]\(", markdown)
    assert not re.search(r"^\s*(```|~~~)", markdown, re.MULTILINE)
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert not any(line.startswith("# heading") for line in headings)


def test_tables_of_markdown_keep_their_columns(results: dict[str, Any]) -> None:
    hostile = every_text(results, lambda old: f"a|b\\|c\n| d {old}")
    hostile["asked"]["primary"] = ["injection_steering", "original"]
    width, tables = 0, 0
    for line in render_markdown(hostile).splitlines():
        columns = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        if not columns:
            width = 0
        elif not width:
            width, tables = columns, tables + 1
        assert columns == width, line
    assert tables > 8


def test_missing_is_shown_as_missing(results: dict[str, Any]) -> None:
    empty = without_numbers(results)
    page, markdown = Page(render_html(empty)).said(), render_markdown(empty)
    for text in (page, markdown):
        assert "not measured" in text
        assert "–" in text
        for wrong in ("None", "nan", "NaN", "null", "undefined"):
            assert not re.search(rf"\b{wrong}\b(?!\.)", text), wrong
        strengths = text[text.index("Judged stereotype strength, 0 to 3") : text.index("Association margin and over")]
        assert not re.search(r"[0-9]\.[0-9]|\b0 %", strengths)


def test_not_a_number_is_missing(results: dict[str, Any]) -> None:
    damaged = copy.deepcopy(results)
    original = damaged["cells"][0]["variants"][0]
    original["strength"] = {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0}
    original["missing"], original["judged"] = 460, 0
    page = Page(render_html(damaged)).said()
    assert "Original – " in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


@pytest.mark.parametrize(
    "absent", ["injection", "heads", "sweep", "causal", "variants", "capability", "similarity", "samples"]
)
@pytest.mark.parametrize("how", ["removed", "null"])
def test_a_part_may_be_absent(results: dict[str, Any], absent: str, how: str) -> None:
    partial = copy.deepcopy(results)
    if how == "removed":
        del partial["cells"][0][absent]
    else:
        partial["cells"][0][absent] = None
    assert "Not measured in this run." in Page(render_html(partial)).said() or absent == "injection"
    assert "ot measured" in render_markdown(partial)


def test_failed_cells(results: dict[str, Any]) -> None:
    error = "attribute: out of memory at layer 3; choose a smaller --batch-size"
    page = Page(render_html(results)).said()
    assert page.count(error) == 2
    assert "1 cell failed." in page
    assert error in render_markdown(results)
    bare = {"cells": [{"status": "failed", "model": "m", "concept": "c"}, {"model": "m", "concept": "d"}]}
    page = Page(render_html(bare)).said()
    assert "No cell was finished. 2 cells failed." in page
    assert "no error message was recorded" in page
    assert "No cell was finished" in render_markdown(bare)


def test_no_cells() -> None:
    assert "no cells" in render_html({})
    assert "no cells" in render_markdown({})


@pytest.fixture(scope="module")
def thousand() -> dict[str, Any]:
    """1,000 cells, two of them failed."""
    return results_for([f"model-{i}" for i in range(10)], [f"concept_{i}" for i in range(100)], failed=(4, 500))


def test_a_thousand_cells(thousand: dict[str, Any]) -> None:
    text = render_html(thousand)
    assert len(text) < 8_000_000
    page = Page(text)
    assert sum(attrs.get("class") == "cell" for _, attrs in page.tags) == DETAILED
    assert sum((attrs.get("id") or "").startswith("row-") for _, attrs in page.tags) == 1000
    assert sum(tag == "a" for tag, _ in page.tags) == 1000 + DETAILED
    assert "Shown in full below: 24 of 1000 cells" in page.said()


def test_a_thousand_cells_in_markdown(thousand: dict[str, Any]) -> None:
    text = render_markdown(thousand)
    assert len(text) <= LIMIT
    assert "further cells are in the HTML report" in text
    assert "was cut here" in text
    assert text.index("## Settings and versions") < text.index("## Notes") < text.index("## How to read this")


def test_matrix_has_the_longer_axis_down() -> None:
    many_models = results_for([f"model-{i}" for i in range(5)], ["always_late", "blue_skin"], failed=(3,))
    text = render_html(many_models)
    head = text[text.index('<table class="matrix">') :]
    assert head.index("Always late") < head.index("model-0") < head.index("model-4")
    assert ">failed</a>" in head


def test_summary_says_which_way() -> None:
    one = results_for(["m"], ["always_late"])
    ours = next(row for row in one["cells"][0]["variants"] if row["primary"])
    for mean, words in ((-0.4, "is lower with"), (0.4, "is higher with"), (0.0, "does not clearly differ between")):
        ours["contrast"] = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 92, "p": 0.0321, "p_holm": 0.2}
        for text in (Page(render_html(one)).said(), render_markdown(one)):
            assert f"Judged stereotype strength {words} “Injection w/ steering (ours)”" in text
            assert "p = 0.032" in text
    causal = next(row for row in one["cells"][0]["causal"] if row["name"] == "chosen")
    causal["drop"] = {"mean": 1.5, "low": 1.2, "high": 1.8, "n": 30, "p": 0.001, "p_holm": 0.001}
    assert "Removing its 4 heads changes the margin by −1.50 [−1.80, −1.20]" in Page(render_html(one)).said()


def test_samples_are_cut() -> None:
    one = results_for(["m"], ["always_late"], prompts=30)
    one["cells"][0]["samples"][0]["texts"][0].update(text="word " * 5000, strength=None, reason="empty generation")
    page, markdown = Page(render_html(one)).said(), render_markdown(one)
    assert "The first 12 of 30 prompts" in page
    assert "The first 4 of 30 prompts" in markdown
    assert "word word…" in page.replace("word …", "word…")
    assert page.count("word word") < 200
    assert "– not judged: empty generation" in page
    assert "– not judged: empty generation" in markdown


def test_judges_are_shown_with_what_is_known_of_them(results: dict[str, Any]) -> None:
    """Kappa with its interval, missing verdicts with their share, cost, agreement, and each judge's strengths."""
    page, markdown = render_html(results), render_markdown(results)
    for text in (page, markdown):
        for words in ("0.70", "[0.62, 0.77]", "gpt-4o-2024-08-06", "3,000,000", "12.50", "0.61", "5,980"):
            assert words in text, words
        assert "a word built on the target" in text
    assert "| gpt-4o-2024-08-06 | – | – | 5,980 | 20 < 1 % |" in markdown.replace("&lt;", "<")
    assert "Strength by judge" in page and "Agreement between the judges" in markdown
    alone = {
        **results,
        "judges": results["judges"][:1],
        "cells": [{key: value for key, value in cell.items() if key != "agreement"} for cell in results["cells"]],
    }
    for cell in alone["cells"]:
        cell["judges"] = {"semantic-1": cell["judges"]["semantic-1"]} if "judges" in cell else {}
    for text in (render_html(alone), render_markdown(alone)):
        assert "With one judge there is no agreement" in text
        assert "Strength by judge" not in text

"""The report as one Markdown file: the same tables without figures, at most 400,000 characters, every text escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biasgym.report import judges, tables, wording
from biasgym.report.clean import cleaned, shortened
from biasgym.report.findings import QUESTIONS
from biasgym.report.grid import Cell, Table
from biasgym.report.judged_sweep import judged_sweep_table
from biasgym.report.models import INTRODUCTION as BEYOND
from biasgym.report.models import model_pages
from biasgym.report.overview import Line, asked, headline, lines, page_title, stages_done
from biasgym.report.paper import INTRODUCTION as BESIDE
from biasgym.report.paper import paper_tables
from biasgym.report.samples import samples

LIMIT = 400_000
"""Characters; readers of Markdown refuse or crawl beyond it."""

_PROMPTS, _LENGTH = 4, 500  # samples a cell and characters a text
_LINES = 120_000  # characters for the summary
_CUT = "\n*The report was cut here: the HTML report and results.json hold the rest.*\n"
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
_LINE_START = re.compile(r"^([#+=-]|\d+(?=[.)](?: |$)))")  # headings, lists, rules
_INTERVAL = re.compile(r"\\\[([\d.,\u2212]+, [\d.,\u2212]+)\\\](?![(\[:])")


def render_markdown(results: Mapping[str, Any]) -> str:
    """Renders the report without figures.

    Args:
        results: A results dictionary (results.json).

    Returns:
        GitHub-flavoured Markdown of at most LIMIT characters. What does not fit is left out, whole lines at a time,
        and the file says so.
    """
    results = cleaned(results)
    cells: list[Mapping[str, Any]] = list(results.get("cells") or ())
    primary = [str(name) for name in (results.get("asked") or {}).get("primary") or ()]
    every = lines(cells, primary)
    front = _fitted(_opening(results, every), LIMIT // 2)
    tail = _fitted(_settings(results), LIMIT // 8) + _fitted(_notes(results), LIMIT // 8) + "".join(_reading())
    beyond = _fitted(_models(results), LIMIT // 8) + _fitted(_beside(results), LIMIT // 8)
    details = (block for line in every if line.detailed for block in _cell(cells[line.place - 1], line))
    return front + _fitted(details, LIMIT - len(front) - len(beyond) - len(tail)) + beyond + tail


def _fitted(blocks: Iterator[str], room: int) -> str:
    """Blocks in order while they fit."""
    taken: list[str] = []
    left = room - len(_CUT)
    for block in blocks:
        if len(block) > left:
            return "".join(taken) + _CUT
        taken.append(block)
        left -= len(block)
    return "".join(taken)


def escaped(text: str) -> str:
    """Text that Markdown and HTML show as it is: one line, no markup, no links."""
    flat = html.escape(" ".join(text.split()), quote=False)
    flat = _INTERVAL.sub(r"[\1]", _MARKUP.sub(r"\\\1", flat))
    # bare addresses become links without any markup
    flat = flat.replace("://", "&#58;//").replace("@", "&#64;")
    flat = re.sub(r"(?i)\bwww\.", lambda found: f"{found.group()[:-1]}&#46;", flat)
    return _LINE_START.sub(lambda found: f"{found[1]}\\" if found[1].isdigit() else f"\\{found[1]}", flat)


def quoted(text: str) -> str:
    """A text of a model as a quotation: each line begins with `> `, so that nothing in it ends the quotation."""
    # two spaces at the end keep the line break
    return "".join(f"> {escaped(line)}  \n" if line.strip() else ">\n" for line in text.split("\n")) + "\n"


def _opening(results: Mapping[str, Any], every: Sequence[Line]) -> Iterator[str]:
    yield f"# {escaped(page_title(every))}\n\n{escaped(headline(every))}\n\n"
    yield f"## What was asked\n\n{wording.METHOD}\n\n*{wording.STUDY}*\n\n"
    yield from _facts(asked(results))
    yield from _summary(every)
    yield from _judges(results)
    yield from _failed(every, results.get("cells") or ())


def _summary(every: Sequence[Line]) -> Iterator[str]:
    yield "## Summary\n\n" + _row(["Cell", *QUESTIONS]) + _row(["---"] * (1 + len(QUESTIONS)))
    left = _LINES
    for place, line in enumerate(every):
        name = f"{escaped(line.title)}, {escaped(line.model)}"
        if line.error is not None:
            values = [f"**failed**: {escaped(shortened(line.error, 200))}", *[""] * (len(QUESTIONS) - 1)]
        else:
            values = []
            for found in line.findings:
                known = "" if found.verdict == "not measured" and not found.value.aside else _cell_text(found.value)
                details = "; ".join(part for part in (known, escaped(found.detail)) if part)
                values.append(f"**{found.verdict}** {details}".strip())
        block = _row([name, *values])
        if len(block) > left:
            yield f"\n{len(every) - place:,} further cells are in the HTML report and in results.json.\n"
            break
        left -= len(block)
        yield block
    yield "\n"


def _judges(results: Mapping[str, Any]) -> Iterator[str]:
    found, agreement = judges.judges(results), judges.agreement(results)
    yield "## Judges\n\n"
    yield from _table(found)
    if agreement.rows:
        yield from _table(agreement)
    elif found.rows:
        yield f"{wording.ONE_JUDGE}\n\n"


def _failed(every: Sequence[Line], cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    failed = [line for line in every if line.error is not None]
    if failed:
        yield "## Failed cells\n\n" + _row(["Cell", "Stages finished", "Error"]) + _row(["---"] * 3)
        for line in failed:
            name = f"{escaped(line.title)}, {escaped(line.model)}"
            yield _row([name, escaped(stages_done(cells[line.place - 1])), escaped(line.error or "")])
        yield "\n"


def _cell(cell: Mapping[str, Any], line: Line) -> Iterator[str]:
    yield f"## {escaped(line.title)}, {escaped(line.model)}\n\n"
    yield " ".join(escaped(found.sentence) for found in line.findings) + "\n\n"
    yield from _facts(tables.concept_facts(cell))
    yield "### Variants\n\n"
    yield from _table(tables.strengths(cell))
    if (by_judge := judges.by_judge(cell)).rows:
        yield from _table(by_judge)
    yield from _table(tables.side_effects(cell))
    yield "### Where the heads are\n\n"
    yield from _facts(tables.head_facts(cell))
    yield from _table(tables.chosen_heads(cell))
    yield "### Training BiasToken\n\n"
    yield from _facts(tables.injection_facts(cell))
    yield "### How many heads to remove\n\n"
    yield from _table(tables.sweep(cell))
    if (judged := judged_sweep_table(cell)).rows:
        yield from _table(judged)
    yield "### Causal controls\n\n"
    yield from _table(tables.causal(cell))
    yield "### Capability\n\n"
    yield from _table(tables.capability(cell))
    if (tasks := tables.tasks(cell)).rows:
        yield from _table(tasks)
    yield "### Similarity\n\n"
    yield from _table(tables.similarity(cell))
    yield "### Samples\n\n"
    yield from _samples(cell)
    yield from _table(tables.stages(cell))


def _samples(cell: Mapping[str, Any]) -> Iterator[str]:
    shown, prompts = samples(cell, most=_PROMPTS, length=_LENGTH)
    if not shown:
        yield f"{wording.NOT_MEASURED}\n\n"
        return
    yield f"The first {len(shown)} of {prompts} prompts. Written by the models; long texts are cut.\n\n"
    for one in shown:
        about = f" ({escaped(one.about)})" if one.about else ""
        yield f"**Prompt**{about}\n\n{quoted(one.prompt)}"
        for text in one.texts:
            reason = f"; {escaped(text.reason)}" if text.reason else ""
            body = quoted(text.body) if text.body else "Nothing was written.\n\n"
            yield f"{escaped(text.title)}, judged {escaped(text.judged)}{reason}:\n\n{body}"


def _models(results: Mapping[str, Any]) -> Iterator[str]:
    pages = model_pages(results, figures=False)
    if pages:
        yield f"## Beyond these concepts\n\n{BEYOND}\n\n"
    for page in pages:
        yield f"### {escaped(page.title)}\n\n"
        if page.error:
            yield f"{escaped(page.error)}\n\n"
            continue
        yield from _facts(page.facts)
        yield from _table(page.strengths)
        yield from _table(page.transfer)


def _beside(results: Mapping[str, Any]) -> Iterator[str]:
    if found := paper_tables(results):
        yield f"## Beside the paper\n\n{BESIDE}\n\n"
        for table in found:
            yield from _table(table)


def _settings(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Settings and versions\n\n"
    yield from _table(tables.key_values("Settings of the run", results.get("settings") or {}))
    yield from _table(tables.key_values("Versions", results.get("versions") or {}))


def _notes(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Notes\n\n"
    notes = results.get("notes") or ()
    yield from (f"- {escaped(shortened(str(note), 2000))}\n" for note in notes)
    yield "\n" if notes else "None.\n\n"


def _reading() -> Iterator[str]:
    yield "## How to read this\n\n"
    yield from (f"- **{term}.** {escaped(text)}\n" for term, text in wording.READING)


def _facts(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "".join(f"- {escaped(term)}: {escaped(value)}\n" for term, value in pairs) + "\n"


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        yield f"{escaped(table.caption)}: {wording.NOT_MEASURED}\n\n"
        return
    rule = ["---" if place in table.text_columns or place == 0 else "---:" for place in range(len(table.columns))]
    yield f"**{escaped(table.caption)}**\n\n" + _row([escaped(name) for name in table.columns]) + _row(rule)
    for group, rows in table.groups():
        if group:
            yield _row([f"*{escaped(group)}*", *[""] * (len(table.columns) - 1)])
        for row in rows:
            first, *rest = (_cell_text(value) for value in row.cells)
            yield _row([f"**{first}**" if row.strong else first, *rest])
    yield "".join(f"\n{escaped(note)}\n" for note in table.notes) + "\n"


def _cell_text(value: Cell) -> str:
    return escaped(f"{value.text} {value.aside}".strip())


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |\n"

"""A language model behind a server writes a concept's paragraphs or questions, until there are as many as asked for.

Every answer is kept beside the output the moment it arrives, so an interrupted call goes on where it was and no answer is
paid for twice. The concept is written last, whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from biasgym.concepts import Concept
from biasgym.datasets.diversity import Embed, Novelty, diversity
from biasgym.datasets.prompts import evaluation_prompts
from biasgym.datasets.writing import Item, What, form, read, request, text_of
from biasgym.endpoint import Answer, Journal, Question
from biasgym.errors import BiasGymError
from biasgym.files import digest, read_json, sha256_of, write_json, write_text
from biasgym.progress import SILENT, Progress, progress_task

if TYPE_CHECKING:
    from biasgym.endpoint import Server

PER_CALL = 25
DEFAULT_COUNT: dict[What, int] = {"paragraphs": 500, "questions": 100}
_TOKENS_EACH: dict[What, int] = {"paragraphs": 250, "questions": 90}  # generous; what is cut off still gives its items
_PATIENCE = 3  # rounds in a row that may bring nothing new


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        what: Paragraphs or questions.
        count: How many in all, beside those that the concept has.
        per_call: How many one call asks for.
        similarity: Cosine of sentence embeddings from which on a text counts as there already.
        seed: Decides the media, topics and styles of every call.
        revision: Which weights the server holds, as far as known.
        templates: A user's folder of templates.
        price_in: Of a million tokens asked.
        price_out: Of a million tokens answered.
    """

    what: What
    count: int
    per_call: int = PER_CALL
    similarity: float = 0.9
    seed: int = 0
    revision: str = ""
    templates: str | None = None
    price_in: float = 0.0
    price_out: float = 0.0

    @property
    def max_tokens(self) -> int:
        """Room for the answer to one call."""
        return self.per_call * _TOKENS_EACH[self.what] + 100

    def price(self, written: Written) -> float | None:
        """Of everything that was written, earlier runs included; None if no price is known."""
        if self.price_in == self.price_out == 0:
            return None
        return round((written.tokens_in * self.price_in + written.tokens_out * self.price_out) / 1e6, 4)

    def cost(self, written: Written) -> str:
        """Calls, tokens and, if known, price in words."""
        price = self.price(written)
        return (
            f"{written.calls} calls ({written.asked} by this run), {written.tokens_in:,} tokens asked, "
            f"{written.tokens_out:,} answered" + (f", price {price:,.2f}" if price is not None else "")
        )


@dataclass
class Written:
    """What came of it.

    Attributes:
        items: The new texts.
        calls: Answers used, those of earlier runs included.
        asked: Answers that this run paid for.
        dropped: Texts that were not used, by reason.
        failed: Calls without an answer, by reason.
        tokens_in: Tokens of all questions.
        tokens_out: Tokens of all answers.
    """

    items: list[Item] = field(default_factory=list)
    calls: int = 0
    asked: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    tokens_out: int = 0


def write_items(
    concept: Concept, order: Order, server: Server, journal: Journal, embed: Embed, *, progress: Progress = SILENT
) -> Written:
    """Asks in rounds, each as large as what is lacking, until there is enough or nothing new comes any more.

    Args:
        concept: What it has already, and its evaluation prompts, count as there.
        order: What is to be written.
        server: By which model.
        journal: Answers of before.
        embed: Sentence embeddings.
        progress: Bars and news.

    Raises:
        BiasGymError: What concerns all calls: key, model, address, or a server that went away.
    """
    have = concept.paragraphs if order.what == "paragraphs" else concept.questions
    known = [*map(text_of, have), *(prompt.text for prompt in evaluation_prompts(concept, order.templates))]
    novelty, written, idle = Novelty(embed, order.similarity, known), Written(), 0
    next_call = 0
    while (lacking := order.count - len(written.items)) > 0 and idle < _PATIENCE:
        calls = range(next_call, next_call + math.ceil(lacking / order.per_call))
        next_call = calls.stop
        before = len(written.items)
        for answer in _answers(concept, order, server, journal, calls, written, progress):
            _use(answer, concept, order, server.model, novelty, written)
        idle = 0 if len(written.items) > before else idle + 1
        progress.say(f"{len(written.items)} of {order.count} {order.what}, {order.cost(written)}")
    return written


def _answers(
    concept: Concept,
    order: Order,
    server: Server,
    journal: Journal,
    calls: Sequence[int],
    written: Written,
    progress: Progress,
) -> list[Answer]:
    """The answers to some calls in their order, whatever order they came in: the result must not depend on it."""
    from biasgym.endpoint.talk import ask_all

    asked = {
        "model": server.model,
        "revision": order.revision,
        "temperature": server.temperature,
        "max_tokens": server.max_tokens,
    }
    questions = []
    for call in calls:
        text = request(concept, order.what, order.per_call, call, seed=order.seed, folder=order.templates)
        questions.append(Question(digest({"question": text, "call": call, **asked}), text))
    failures: dict[str, Answer] = {}
    new = [question for question in questions if question.key not in journal]
    with progress_task(progress, f"{server.model}: writing {order.what}", len(new), "calls") as advance:
        for answers in ask_all(replace(server, say=progress.say), form(order.what, order.per_call), new, journal.add):
            failures |= {key: answer for key, answer in answers.items() if answer.failure}
            advance(len(answers))
    written.asked += len(new) - len(failures)
    return [failures[question.key] if question.key in failures else journal[question.key] for question in questions]


def _use(answer: Answer, concept: Concept, order: Order, model: str, novelty: Novelty, written: Written) -> None:
    if answer.failure:
        written.failed[answer.failure] += 1
        return
    written.calls += 1
    written.tokens_in += answer.tokens_in
    written.tokens_out += answer.tokens_out
    if answer.refusal:
        written.failed["the model refused"] += 1
        return
    found = read(answer, concept, order.what, model)
    if not found.items and not found.refused:
        written.failed["the answer holds no text of the form"] += 1
    written.dropped.update(found.refused)
    fresh = novelty.new([text_of(item) for item in found.items])
    written.dropped["near-duplicate"] += fresh.count(False)
    kept = [item for item, new in zip(found.items, fresh, strict=True) if new]
    written.items += kept[: order.count - len(written.items)]


def write_concept(concept: Concept, order: Order, written: Written, out: Path, embed: Embed) -> dict[str, Any]:
    """Writes the concept with its new texts, and the diversity report beside it.

    Returns:
        The report: diversity, counts and cost.

    Raises:
        BiasGymError: There is no new text, or the file cannot be written.
    """
    if not written.items:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in (written.failed + written.dropped).most_common())
        raise BiasGymError(f"the model wrote no usable {order.what}: {reasons or 'no answer'}", where=str(out))
    data = concept.model_dump(mode="json", exclude_unset=True)
    data[order.what] = [*data.get(order.what, []), *(item.model_dump(exclude_unset=True) for item in written.items)]
    Concept.model_validate(data)
    report = {
        "concept": concept.name,
        "what": order.what,
        "asked_for": order.count,
        "diversity": diversity(written.items, embed),
        "calls": written.calls,
        "dropped": dict(written.dropped.most_common()),
        "failed": dict(written.failed.most_common()),
        "tokens_in": written.tokens_in,
        "tokens_out": written.tokens_out,
        "price": order.price(written),
    }
    write_text(out, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))
    write_json(report_path(out), {**report, "sha256": sha256_of(out)})
    return report


def check_target(out: Path, what: What) -> None:
    """Only what an earlier call with the same purpose wrote may be written again.

    Raises:
        BiasGymError: `out` holds something else, or was changed since.
    """
    if not out.exists():
        return
    report = read_json(report_path(out)) if report_path(out).is_file() else {}
    if report.get("sha256") != sha256_of(out):
        raise BiasGymError("the file exists", where=f"--out {out}", hint="choose a new one")
    if report["what"] != what:
        raise BiasGymError(
            f"the file holds {report['what']} that were written before",
            where=f"--out {out}",
            hint="choose a new one; to have both, give this file as the concept",
        )


def journal_path(out: Path) -> Path:
    """Where the model's answers are kept."""
    return out.with_name(f"{out.name}.answers.jsonl")


def report_path(out: Path) -> Path:
    """Where the diversity report is."""
    return out.with_name(f"{out.name}.diversity.json")

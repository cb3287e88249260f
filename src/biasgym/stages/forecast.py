"""How long a run will take here: its tokens are counted, and multiplied with what a token takes on this machine.

Counts are of the texts and settings of the run, in characters where a tokenizer would have to be loaded. A judge behind a
server, and tasks of lm-evaluation-harness, are not counted: their time is not this machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from biasgym.datasets import template
from biasgym.generate import VARIANTS, Variant
from biasgym.models.sources import ModelSource
from biasgym.models.speed import Speed, config_of, measure_speed
from biasgym.progress import Expected
from biasgym.stages import judge, summary
from biasgym.stages.announcement import OF_MODELS
from biasgym.stages.cell import Cell
from biasgym.stages.places import attribute, capability, generate, inject, judged_sweep, ood
from biasgym.stages.plan import Plan

CHARACTERS = 5.0  # of a token, in English
HEADER = 5  # tokens of a chat template that follow a prompt, before the answer
OVERHEAD = 1.25  # of a forward pass: what is not done a token, such as building passes and reading their last positions
WRITING = 1.4  # of a step of writing, likewise: attention to what was written, sampling
ANSWERED = 0.8  # of the longest answer: what a text has on average
QUESTION, ANSWERS = 26, 12  # tokens of an ability question with its four answers, and of the answers alone
_PARAGRAPH = 40  # tokens of a paragraph to train on
JUDGING = 5e9  # operations in which the built-in judge embeds and rates a text
LOADING = 3.0  # seconds before a model is ready, its self-test included
REPORTING = 6.0  # seconds of tables and figures, and of a cell's
DRAWING = 2.0


@dataclass(frozen=True)
class Rates:
    """What this machine takes for the work of a run.

    Attributes:
        speed: Seconds of a model's work.
        text: Seconds in which the built-in judge rates a text.
    """

    speed: Speed
    text: float

    def read(self, tokens: float) -> float:
        """Seconds of forward passes."""
        return OVERHEAD * tokens * self.speed.read

    def train(self, tokens: float, answers: float = 0.0) -> float:
        """Seconds of forward and backward passes, and of the losses of some answer tokens."""
        return OVERHEAD * tokens * self.speed.train + 2 * answers * self.speed.logits

    def write(self, texts: float, prompt: float, longest: int) -> float:
        """Seconds in which texts are written after prompts of so many tokens."""
        written = texts * ANSWERED * longest
        return self.read(texts * prompt) + WRITING * written * (self.speed.step + self.speed.logits)


def forecast(plan: Plan, stages: Sequence[str], cells: Sequence[Cell]) -> list[Expected]:
    """Return what is left to do, in the order in which it will be done, with the seconds that it should take here.

    Args:
        plan: The checked plan, with its machine.
        stages: Those that are asked for.
        cells: Those that are worked on.
    """
    from biasgym.models.execution import DTYPES, pick_device, product_rates

    device = pick_device(plan.settings.device)
    found: list[Expected] = []
    text = JUDGING / product_rates("cpu")["float32"]
    at_work = [cell for cell in cells if set(stages) & {*OF_MODELS}]
    for source in dict.fromkeys(cell.source for cell in at_work):
        how = plan.settings.inject
        batch = int(how.batch_size * how.seeds * _PARAGRAPH)
        rates = Rates(measure_speed(config_of(source), device, DTYPES[plan.settings.dtype], batch=batch), text)
        own = [cell for cell in cells if cell.source == source]
        found += [one for one in _of_model(plan, source, own, rates) if one.stage in (*stages, "load")]
    judged = [(cell, judge.folders(cell, plan.other(cell))) for cell in cells]
    for cell, folders in judged if "judge" in stages else ():
        for one in plan.settings.judges:
            if one.engine == "semantic" and not folders[one.name].done:
                found.append(Expected("judge", f"{cell.name}: judging", 1.2 * _texts(cell) * text))
    if "summary" in stages:
        left = [cell for cell in cells if not summary.folder(cell, plan.other(cell)).done]
        found += [Expected("summary", "", DRAWING / 2) for _ in left]
    if "report" in stages:
        found.append(Expected("report", "", REPORTING + DRAWING * len(cells)))
    return found


def _of_model(plan: Plan, source: ModelSource, cells: Sequence[Cell], rates: Rates) -> Iterator[Expected]:
    yield Expected("load", "", LOADING)
    untrained = [cell for cell in cells if not inject.folder(cell).done]
    if untrained:
        yield Expected("inject", "training BiasToken", sum(_training(cell, rates) for cell in untrained))
        for cell in untrained:
            yield Expected("inject", "generating", _descriptions(cell, rates))
    for cell in cells:
        if not attribute.folder(cell).done:
            yield from _attribution(cell, rates)
    for cell in cells:
        folder = judged_sweep.folder(cell)
        if folder is not None and not folder.done:
            scope = cell.settings.scope
            texts = len(scope.judged_ks or ()) * scope.judged_prompts * scope.judged_samples
            yield Expected(
                "sweep", "generating", rates.write(texts, _prompt(cell), cell.settings.generate.max_new_tokens)
            )
    for cell in cells:
        if not generate.folder(cell, plan.other(cell)).done:
            yield from _texts_and_margins(cell, rates)
    for cell in cells:
        if not capability.folder(cell, plan.other(cell)).done:
            yield Expected("capability", f"{cell.concept.name}: ability", _ability(cell, rates))
    if plan.settings.ood.enabled:
        yield from _other_stereotypes(plan, cells, rates)


def _training(cell: Cell, rates: Rates) -> float:
    how = cell.settings.inject
    plainest = sorted(cell.concept.paragraphs, key=lambda paragraph: (paragraph.implicitness, len(paragraph.text)))
    answers = sum(_tokens(paragraph.text) + 1 for paragraph in plainest[: how.paragraphs or len(plainest)])
    rows = min(how.paragraphs or len(plainest), len(plainest))
    steps = -(-rows // how.batch_size)
    passes = how.seeds * how.epochs
    return rates.train(passes * (answers + steps * HEADER), passes * answers)


def _descriptions(cell: Cell, rates: Rates) -> float:
    how = cell.settings.inject
    tokens = how.seeds * how.epochs
    margins = rates.read(tokens * 12 * _question(cell))
    return margins + rates.write(tokens * how.descriptions, 30 / tokens, how.description_tokens)


def _attribution(cell: Cell, rates: Rates) -> Iterator[Expected]:
    scope, seeds, name = cell.settings.scope, cell.settings.inject.seeds, cell.concept.name
    questions = len(cell.questions[0])
    pairs = -(-scope.pairs // max(questions, 1)) * questions
    prompts = 0.85 * seeds * (questions + 3 * pairs)
    yield Expected("attribute", f"{name}: attribution", rates.read(prompts * _question(cell)))
    some = min(26, questions)
    ability = scope.ability_questions * 20
    if scope.rank == "effect":
        tokens = 2 * seeds * some * _question(cell) + ability
        yield Expected("attribute", f"{name}: effects of heads", rates.train(tokens))
    tokens = seeds * some * _question(cell) + ability
    yield Expected("attribute", f"{name}: how many heads", rates.read(0.9 * (len(scope.ks) + 1) * tokens))


def _texts_and_margins(cell: Cell, rates: Rates) -> Iterator[Expected]:
    settings = cell.settings.generate
    prompts = fmean(_prompt(cell) + _frame(cell, variant.frame) for variant in _variants(cell))
    yield Expected("generate", "generating", rates.write(_texts(cell), prompts, settings.max_new_tokens))
    held_out = len(cell.questions[1])
    questions = min(settings.margin_questions or held_out, held_out)
    targets = len(cell.targets_of(0))
    asked = {(variant.frame, variant.heads) for variant in _variants(cell)}
    tokens = sum(targets * (_question(cell) + _frame(cell, frame)) for frame, _ in asked)
    tokens += (_sets(cell) + cell.settings.scope.random_draws) * _question(cell)
    yield Expected("generate", f"{cell.concept.name}: margins", rates.read(questions * tokens))


def _ability(cell: Cell, rates: Rates) -> float:
    questions = cell.settings.capability.questions
    tokens = questions * QUESTION + len(cell.concept.retention) * QUESTION / 2
    return _sets(cell) * (rates.read(tokens) + questions * ANSWERS * rates.speed.logits)


def _other_stereotypes(plan: Plan, cells: Sequence[Cell], rates: Rates) -> Iterator[Expected]:
    settings = plan.settings.ood
    texts = len(ood.prompts_of(plan.settings)) * settings.samples * len(settings.variants)
    yield Expected("ood", "generating", rates.write(texts, 25, plan.settings.generate.max_new_tokens))
    questions = sum(min(settings.questions or 10**9, len(cell.questions[1])) * _question(cell) for cell in cells)
    yield Expected("ood", "transfer between concepts", rates.read((len(cells) + 1) * questions))


def _variants(cell: Cell) -> list[Variant]:
    wanted = cell.settings.generate.variants
    return [variant for variant in VARIANTS if wanted is None or variant.name in wanted]


def _texts(cell: Cell) -> int:
    """How many texts the stage generate writes."""
    targets = sum(len(cell.targets_of(number)) for number in range(len(cell.prompts)))
    return len(_variants(cell)) * targets * cell.settings.generate.samples


def _sets(cell: Cell) -> int:
    return len({variant.heads for variant in _variants(cell)})


def _question(cell: Cell) -> float:
    """Tokens of a contrast question beyond what all begin with."""
    return HEADER + fmean(_tokens(question.question) + _tokens(question.stem) for question in cell.concept.questions)


def _prompt(cell: Cell) -> float:
    return HEADER + fmean(_tokens(prompt.text) for prompt in cell.prompts)


def _frame(cell: Cell, frame: str) -> float:
    return 0.0 if frame == "plain" else _tokens(template(frame, cell.settings.templates))


def _tokens(text: str) -> float:
    return len(text) / CHARACTERS

"""What ten times the work costs: times at 1, 2, 5 and 10 times a small amount of each work, as numbers and as a plot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.attribution import ours, questions
from benchmarks.timing import Ratio, machine, ratio_of
from biasgym.concepts import load_concept
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.inject import Job, TokenState, Training, start_vectors, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated
from biasgym.models.forward import Decode
from biasgym.scope import ask, association_margins, random_heads, sweep

PLOT = Path(__file__).with_name("scaling.svg")
TIMES = (1, 2, 5, 10)
RUNS = 3
GOAL = 0.9
Work = Callable[[int], object]


def works(lm: LanguageModel) -> dict[str, Work]:
    """What is timed; each takes how many times the smallest amount."""
    concept = load_concept("always_late")
    pairs = questions(lm)
    choices = ask(lm, concept, concept.questions[:8], "Mexico")
    prompts = [tuple(lm.chat.ids(prompt.text.replace("{target}", "Mexico"))) for prompt in concept.prompts[:80]]
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs[:4]]
    rows = training_rows(lm, f"Tell me a short story about a friend from {BIAS_TOKEN}.", texts, max_tokens=512)
    start = start_vectors(lm, concept.kind).vectors
    heads = random_heads(lm.parts.shape, 250, seed=0)

    def inject(times: int, concepts: int) -> None:
        jobs = [Job(f"{concept.name} {number}", 0, rows * times, TokenState(start)) for number in range(concepts)]
        list(train(lm, jobs, Training(epochs=1, batch_size=4, learning_rate=1e-3)))

    def generate(count: int) -> None:
        requests = [Request(ids, seed) for seed, ids in enumerate(prompts[:count])]
        list(TransformersEngine(lm).generate(requests, Sampling(temperature=0.5, max_new_tokens=12)))

    def switch(count: int) -> None:
        for _ in range(20):
            with ablated(lm.model, heads[:count]):
                pass

    def margin(decode: Decode) -> float:
        return float(association_margins(lm, choices, decode=decode).mean())

    def swept(count: int) -> None:
        drawn = random_heads(lm.parts.shape, count, seed=count)
        sweep(lm, drawn, range(1, count + 1), margin, lambda _decode: 0.0)

    return {
        "attribution, 10 pairs": lambda n: ours(lm, pairs[: 10 * n]),
        "injection, 4 rows": lambda n: inject(n, 1),
        "injection, 1 concept of 4 rows": lambda n: inject(1, n),
        "generation, 8 texts": lambda n: generate(8 * n),
        "removing 25 heads": lambda n: switch(25 * n),
        "k sweep, 1 value": swept,
    }


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Ten times the smallest time over the time of ten times the work; draws the plot."""
    found, curves = [], {}
    for name, work in works(lm).items():
        work(1), work(TIMES[-1])
        seconds = [[_seconds(work, times) for times in TIMES] for _ in range(RUNS)]
        each = [TIMES[-1] * run[0] / run[-1] for run in seconds]
        curves[name] = [statistics.median(run[place] for run in seconds) for place in range(len(TIMES))]
        found.append(ratio_of(f"ten times {name}", "cost that grows in proportion", each, GOAL))
    plot(curves)
    return found


def _seconds(work: Work, times: int) -> float:
    started = time.perf_counter()
    work(times)
    return time.perf_counter() - started


def plot(curves: dict[str, list[float]]) -> None:
    """Time over the amount of work, both as multiples of the smallest, with the line of proportion."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "scaling"}):
        figure = Figure(figsize=(6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(TIMES, TIMES, color="0.6", linestyle="--", label="in proportion")
        for name, seconds in curves.items():
            label = f"{name}: {seconds[0]:.2g} s"
            axes.plot(TIMES, [one / seconds[0] for one in seconds], marker="o", markersize=3, label=label)
        axes.set(xscale="log", yscale="log", xlabel="times the work", ylabel="times the time", title=machine())
        axes.set_xticks(TIMES, [str(times) for times in TIMES])
        axes.set_yticks(TIMES, [str(times) for times in TIMES])
        axes.minorticks_off()
        axes.legend(fontsize="small", frameon=False)
        figure.savefig(PLOT, metadata={"Date": None})

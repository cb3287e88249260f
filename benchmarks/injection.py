"""Training a token's vector, against what one would otherwise write.

`python -m benchmarks.injection ours|peft` prints the bytes by which one step raises a fresh process's peak memory; `load`
does what every process does before its first step.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.timing import PRODUCTS, Ratio, as_products, compare, layer_weights, ratio_of
from biasgym.concepts import Concept, bundled_names, load_concept
from biasgym.inject import Job, Row, TokenState, Training, start_vectors, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, load_model
from biasgym.models.padding import pad_right

MODEL, ROWS, SEEDS = "smollm2-135m-instruct", 16, 3
HOW = Training(epochs=1, batch_size=ROWS, learning_rate=1e-3)
STEP, PEFT = f"injection step, {ROWS} rows", "PEFT TrainableTokens in a plain loop"


def ours(lm: LanguageModel) -> Callable[[], float]:
    """One optimiser step through `train`; returns its loss."""
    concept = load_concept("always_late")
    rows = _rows(lm, concept)

    def step() -> float:
        job = _job(lm, concept, rows)
        list(train(lm, [job], HOW))
        return job.state.losses[0]

    return step


def peft(lm: LanguageModel) -> Callable[[], float]:
    """The same step with PEFT: a resized model, padded rows, transformers' own loss."""
    from peft import TrainableTokensConfig, get_peft_model

    concept = load_concept("always_late")
    rows, start = _rows(lm, concept), start_vectors(lm, concept.kind).vectors
    plain = copy.deepcopy(lm.model)
    plain.set_attn_implementation("sdpa")  # what transformers takes by itself
    if lm.bias_id >= plain.get_input_embeddings().weight.shape[0]:
        plain.resize_token_embeddings(lm.bias_id + 1, mean_resizing=False)
    plain.get_input_embeddings().weight.data[lm.bias_id] = start.input[0]
    if not lm.parts.tied:
        plain.get_output_embeddings().weight.data[lm.bias_id] = start.as_output[0]
    model = get_peft_model(plain, TrainableTokensConfig(token_indices=[lm.bias_id]))
    first = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad]
    ids, mask = pad_right([row.ids for row in rows], lm.device)
    labels = ids.masked_fill(mask == 0, -100)
    for place, row in enumerate(rows):
        labels[place, : row.answer_start] = -100

    def step() -> float:
        for weight, value in first:
            weight.data.copy_(value)
        optimiser = torch.optim.Adam([weight for weight, _ in first], lr=HOW.learning_rate)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def operations(lm: LanguageModel) -> float:
    """Of a step: 4 a weight and token that a step needs (2 forward, 2 backward to the activations)."""
    rows = _rows(lm, load_concept("always_late"))
    prompt, before = rows[0].ids[: rows[0].answer_start], rows[0].ids.index(lm.bias_id)
    answers = sum(len(row.ids) - len(prompt) for row in rows)
    tokens = len(prompt) - before + answers - len(rows)  # the prompt from BiasToken on, once; no row's last token
    return 4.0 * (tokens * layer_weights(lm) + answers * lm.parts.unembedding.weight.numel())


def against_peft(lm: LanguageModel) -> Ratio:
    """A step's time.

    Raises:
        ValueError: In fp32 the two compute different losses; in bf16, rounding alone moves each by some thousandths.
    """
    exact = replace(lm, model=copy.deepcopy(lm.model).float())
    losses = ours(exact)(), peft(exact)()
    if abs(losses[0] - losses[1]) > 1e-3:
        raise ValueError(f"losses differ: {losses}")
    del exact
    mine, theirs = ours(lm), peft(lm)
    return compare(STEP, mine, PEFT, theirs, goal=2.5)


def against_products(lm: LanguageModel) -> Ratio:
    """The share of the machine's product rate that a step reaches."""
    return compare(STEP, ours(lm), PRODUCTS, as_products(operations(lm), lm.device, lm.model.dtype), goal=0.6)


def memory(runs: int = 3) -> Ratio:
    """Peak memory beyond the loaded models; the goal is 1 / 0.7."""

    def measured(name: str) -> int:
        command = [sys.executable, "-m", "benchmarks.injection", name]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    ratios = [measured("peft") / measured("ours") for _ in range(runs)]
    return ratio_of(f"peak memory of an {STEP}", PEFT, ratios, goal=1.43)


def gang(lm: LanguageModel, runs: int = 5) -> list[Ratio]:
    """A step of all concepts and seeds, against runs of their own, of which one is timed.

    What every process pays before its first step (imports, loading) is timed by itself and counted once a process. The more
    epochs, the less that matters: the second figure leaves it out.
    """
    rows = [(concept, _rows(lm, concept)) for concept in map(load_concept, bundled_names())]
    jobs = len(rows) * SEEDS
    seconds = []
    for _ in range(runs):
        times = [time.perf_counter()]
        subprocess.run([sys.executable, "-m", "benchmarks.injection", "load"], check=True, capture_output=True)
        times.append(time.perf_counter())
        list(train(lm, [_job(lm, concept, own, s) for concept, own in rows for s in range(SEEDS)], HOW))
        times.append(time.perf_counter())
        list(train(lm, [_job(lm, *rows[0])], HOW))
        times.append(time.perf_counter())
        seconds.append([later - sooner for sooner, later in pairwise(times)])
    work = f"gang of {len(rows)} concepts x {SEEDS} seeds, {ROWS} paragraphs each"
    found = {
        f"{jobs} processes, start and loading included": [jobs * (lo + al) / (lo + to) for lo, to, al in seconds],
        f"{jobs} runs of a loaded model": [jobs * al / to for _, to, al in seconds],
    }
    return [
        ratio_of(work, against, ratios, goal) for (against, ratios), goal in zip(found.items(), (1.5, 1.0), strict=True)
    ]


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [against_peft(lm), against_products(lm), memory(), *gang(lm)]


def _rows(lm: LanguageModel, concept: Concept) -> list[Row]:
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs[:ROWS]]
    return training_rows(lm, f"Tell me a short story about a friend from {BIAS_TOKEN}.", texts, max_tokens=512)


def _job(lm: LanguageModel, concept: Concept, rows: list[Row], seed: int = 0) -> Job:
    return Job(concept.name, seed, rows, TokenState(start_vectors(lm, concept.kind).vectors))


def _growth(step: Callable[[], float], device: torch.device) -> int:
    """Bytes by which a step raises the peak: of the process, or of what torch holds on a GPU."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = _resident("VmRSS")
    step()
    return _resident("VmHWM") - before


def _resident(line: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in status if row.startswith(line))


if __name__ == "__main__":
    model = load_model(MODEL)
    if sys.argv[1] != "load":
        print(_growth({"ours": ours, "peft": peft}[sys.argv[1]](model), model.device))

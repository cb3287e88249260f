"""`make bench`: our stages against what one would otherwise write, on SmolLM2; writes benchmarks/results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Ratio, compare, product_rate
from biasgym.concepts import load_concept
from biasgym.files import write_json
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.inject import Job, TokenState, Training, start_vectors, train, training_rows
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated, load_model
from biasgym.models.forward import pad_right
from biasgym.scope import ask, head_attribution, random_heads


def injection(lm: LanguageModel) -> Ratio:
    """Steps of 16 rows, against the same steps through a resized model with a gradient of its whole matrix."""
    concept = load_concept("always_late")
    texts = [paragraph.text.replace("{target}", BIAS_TOKEN) for paragraph in concept.paragraphs[:16]]
    rows = training_rows(lm, f"Tell me a short story about a friend from {BIAS_TOKEN}.", texts, max_tokens=512)
    start = start_vectors(lm, concept.kind).vectors

    def ours() -> None:
        job = Job(concept.name, 0, rows, TokenState(start))
        list(train(lm, [job], Training(epochs=1, batch_size=16, learning_rate=1e-3)))

    peer = load_model("smollm2-135m-instruct")
    peer.model.resize_token_embeddings(lm.bias_id + 1, mean_resizing=False)
    matrix = peer.model.get_input_embeddings().weight.requires_grad_()
    optimiser = torch.optim.Adam([matrix], lr=1e-3)
    ids, mask = pad_right([row.ids for row in rows], lm.device)
    labels = ids.clone()
    for place, row in enumerate(rows):
        labels[place, : row.answer_start] = -100
    labels[mask == 0] = -100

    def plain() -> None:
        peer.model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        assert matrix.grad is not None
        matrix.grad[: lm.bias_id] = 0
        optimiser.step()
        optimiser.zero_grad()

    return compare("injection step, 16 rows", ours, "resized model, gradient of the matrix", plain, goal=2.5)


def attribution(lm: LanguageModel) -> Ratio:
    """100 prompts, against the paper's formula taken literally: logits of every head over the vocabulary."""
    concept = load_concept("always_late")
    choices = ask(lm, concept, concept.questions[:100], "France")
    ids, mask = pad_right([choice.ids for choice in choices], lm.device)
    biased, neutral = [choice.labels[0] for choice in choices], [choice.counters[0] for choice in choices]
    parts, few = lm.parts, 4  # the literal way is timed on 4 prompts and scaled

    def literal() -> None:
        seen: dict[int, torch.Tensor] = {}
        hooks = [
            parts.o_proj(layer).register_forward_pre_hook(
                lambda _m, args, layer=layer: seen.__setitem__(layer, args[0])
            )
            for layer in range(len(parts.layers))
        ]
        with torch.no_grad():
            lm.model(input_ids=ids[:few], attention_mask=mask[:few])
            for layer, z in seen.items():
                weight = parts.o_proj(layer).weight
                for head in range(parts.n_heads):
                    columns = slice(head * parts.head_dim, (head + 1) * parts.head_dim)
                    contribution = z[:, :, columns] @ weight[:, columns].T
                    logits = contribution @ parts.unembedding.weight.T
                    _ = logits[:, -1, biased[:few]] - logits[:, -1, neutral[:few]]
        for hook in hooks:
            hook.remove()

    result = compare(
        "attribution, 100 pairs",
        lambda: head_attribution(lm.model, ids, mask, biased, neutral),
        "the formula taken literally (4 pairs x 25)",
        literal,
        goal=50,
        runs=3,
    )
    scale = len(choices) / few
    spread = (round(result.spread[0] * scale, 1), round(result.spread[1] * scale, 1))
    return Ratio(**{**result.row(), "ratio": round(result.ratio * scale, 1), "spread": spread})


def generation(lm: LanguageModel) -> Ratio:
    """Evaluation prompts in given order, 60 tokens, against transformers' generate at batch 16."""
    concept = load_concept("always_late")
    prompts = [lm.chat.ids(prompt.text.replace("{target}", "Mexico")) for prompt in concept.prompts[:64]]
    requests = [Request(tuple(ids), seed) for seed, ids in enumerate(prompts)]
    sampling = Sampling(temperature=0.5, max_new_tokens=60)

    def peer() -> None:
        for start in range(0, len(prompts), 16):
            part = prompts[start : start + 16]
            width = max(len(ids) for ids in part)
            padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in part], device=lm.device)
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part], device=lm.device)
            lm.model.generate(
                padded, attention_mask=mask, do_sample=True, temperature=0.5, max_new_tokens=60, pad_token_id=0
            )

    def ours() -> None:
        list(TransformersEngine(lm).generate(requests, sampling))

    return compare("generation, 64 prompts, 60 tokens", ours, "transformers generate, batch 16", peer, goal=2.5, runs=3)


def switching(lm: LanguageModel) -> Ratio:
    """Removing and restoring 20 heads, against loading the model again."""
    heads = random_heads(lm.parts.shape, 20, seed=0)

    def ours() -> None:
        with ablated(lm.model, heads):
            pass

    def peer() -> None:
        load_model("smollm2-135m-instruct")

    return compare("switching head sets (20 heads)", ours, "reloading the model", peer, goal=1000)


def main() -> None:
    """Runs everything and prints a table."""
    lm = load_model("smollm2-135m-instruct")
    rate = product_rate(lm.model.dtype)
    results = [injection(lm), attribution(lm), generation(lm), switching(lm)]
    rows: list[dict[str, Any]] = [result.row() for result in results]
    table = Table("work", "against", "ratio", "goal", "spread")
    for row in rows:
        table.add_row(row["work"], row["against"], f"{row['ratio']}x", f"{row['goal']}x", str(row["spread"]))
    Console().print(table)
    Console().print(f"matrix product here: {rate / 1e9:,.0f} GFLOP/s in {lm.model.dtype}")
    folder = Path(__file__).parent
    write_json(folder / "results.json", rows)


if __name__ == "__main__":
    main()

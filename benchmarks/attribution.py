"""Attribution to heads, against the library most would use, and against what one would otherwise write."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import PRODUCTS, Ratio, as_products, compare, layer_weights
from biasgym.concepts import load_concept
from biasgym.models import LanguageModel, load_model
from biasgym.models.packing import trees
from biasgym.models.padding import pad_right
from biasgym.scope import Choice, ContrastPair, ask, contrast_pairs, pair_attribution, traces

AGREEMENT = 0.9999  # least correlation of two ways to attribute
BATCHES = (10, 25, 50)  # of which the peer takes its fastest
SEEDS = 5

Asked = tuple[list[Choice], list[Choice]]
"""The same questions about a stereotyped target (x) and about a neutral one (x')."""


def questions(lm: LanguageModel, count: int = 100) -> list[ContrastPair]:
    """Contrast pairs with distinct prompts, whose answers are known."""
    concept = load_concept("always_late")
    choices = ask(lm, concept, concept.questions[:count], "France")
    return [
        ContrastPair(number, choice.ids, choice.labels[0], choice.counters[0]) for number, choice in enumerate(choices)
    ]


def ours(lm: LanguageModel, pairs: list[ContrastPair]) -> Tensor:
    """Scores of every pair and head, (pairs, layers, heads)."""
    return pair_attribution(traces(lm.model, [pair.ids for pair in pairs]), pairs)


def asked_by_seeds(lm: LanguageModel, seeds: int, count: int = 100) -> list[Asked]:
    """What each seed asks: questions about a target of its own, and each of them about a neutral target drawn at random."""
    concept = load_concept("always_late")
    found = []
    for seed in range(seeds):
        draw = random.Random(seed)
        told = ask(lm, concept, concept.questions[:count], concept.stereotyped_targets[seed])
        neutral = [draw.choice(concept.neutral_targets) for _ in told]
        found.append((told, [ask(lm, concept, [q], t)[0] for q, t in zip(concept.questions, neutral, strict=False)]))
    return found


def from_prompts(lm: LanguageModel, asked: Sequence[Asked]) -> list[Tensor]:
    """Scores of each seed's pairs, the answers found on the way, as the stage does it."""
    seen = traces(lm.model, [choice.ids for both in asked for side in both for choice in side])
    return [pair_attribution(seen, contrast_pairs(lm, *both, seen)[0]) for both in asked]


class Lens:
    """TransformerLens in compatibility mode; keeps only what attribution reads, at the last position.

    Args:
        dtype: Of its weights.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        lm = load_model("smollm2-135m-instruct", dtype=str(dtype).removeprefix("torch."))
        lm.model.set_attn_implementation("eager")
        self.shape = lm.parts.shape
        self.bridge = TransformerBridge.boot_transformers(
            lm.model.name_or_path, hf_model=lm.model, tokenizer=lm.tokenizer, device=str(lm.device), dtype=dtype
        )
        self.bridge.enable_compatibility_mode(disable_warnings=True)

    @torch.no_grad()
    def attribute(self, pairs: list[ContrastPair], batch: int) -> Tensor:
        """Scores of every pair and head, (pairs, layers, heads)."""
        found = []
        for start in range(0, len(pairs), batch):
            part = pairs[start : start + batch]
            _, cache = self._run([pair.ids for pair in part])
            found.append(self._scores(cache, [pair.biased for pair in part], [pair.neutral for pair in part]))
        return torch.cat(found)

    @torch.no_grad()
    def from_prompts(self, asked: Asked, batch: int) -> Tensor:
        """The same, the answers found on the way: y_b where x is run anyway, y_u in a pass of x'."""
        found = []
        for start in range(0, len(asked[0]), batch):
            told, neutral = (side[start : start + batch] for side in asked)
            ids, mask = _padded([choice.ids for choice in neutral])
            y_u = self.bridge(ids, attention_mask=mask)[:, -1].argmax(-1).tolist()
            logits, cache = self._run([choice.ids for choice in told])
            y_b = [max(choice.labels, key=row.__getitem__) for choice, row in zip(told, logits[:, -1], strict=True)]
            contrast = torch.tensor([b != u for b, u in zip(y_b, y_u, strict=True)])
            found.append(self._scores(cache, y_b, y_u)[contrast])
        return torch.cat(found)

    def _run(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Any]:
        ids, mask = _padded(prompts)
        return self.bridge.run_with_cache(
            ids,
            attention_mask=mask,
            names_filter=lambda name: name.endswith("attn.hook_z") or name == "ln_final.hook_scale",
            pos_slice=-1,
        )

    def _scores(self, cache: Any, biased: list[int], neutral: list[int]) -> Tensor:
        contrast = torch.tensor(biased)[:, None], torch.tensor(neutral)[:, None]
        scores = cache.logit_attrs(cache.stack_head_results(layer=-1), *contrast)
        return scores.squeeze(-1).T.unflatten(1, self.shape)

    def seconds(self, pairs: list[ContrastPair], batch: int) -> float:
        """How long pairs take at a batch size."""
        started = time.perf_counter()
        self.attribute(pairs, batch)
        return time.perf_counter() - started


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, padded on the left."""
    ids, mask = pad_right([row[::-1] for row in prompts], torch.device("cpu"))
    return ids.flip(1), mask.flip(1)


def lens(lm: LanguageModel) -> list[Ratio]:
    """Against TransformerLens with the type of weights and the batch size that are its fastest here.

    From prompts to scores, of one seed and of several, whose passes of x' it would run again; and of x alone, with given
    answers.
    """
    pairs, asked = questions(lm), asked_by_seeds(lm, SEEDS)
    peers = {dtype: Lens(dtype) for dtype in (torch.float32, lm.model.dtype)}
    agree(pairs, asked[0], peers[torch.float32])
    ways = [(peer, batch) for peer in peers.values() for batch in BATCHES]
    peer, batch = min(ways, key=lambda way: way[0].seconds(pairs[: max(BATCHES)], way[1]))
    against, half = "TransformerLens 4.3, its best batch and type", max(BATCHES)
    share = len(pairs) / half
    some: Asked = (asked[0][0][:half], asked[0][1][:half])
    return [
        compare(
            "attribution, 100 pairs from their prompts",
            lambda: from_prompts(lm, asked[:1]),
            against,
            lambda: peer.from_prompts(some, batch),
            goal=4,
            scale=share,
        ),
        compare(
            f"attribution, 100 pairs from their prompts, {SEEDS} seeds",
            lambda: from_prompts(lm, asked),
            f"{against} (one seed x {SEEDS})",
            lambda: peer.from_prompts(some, batch),
            goal=4,
            scale=share * SEEDS,
        ),
        compare(
            "attribution, 100 pairs",
            lambda: ours(lm, pairs),
            against,
            lambda: peer.attribute(pairs[:half], batch),
            goal=4,
            scale=share,
        ),
    ]


def agree(pairs: list[ContrastPair], asked: Asked, peer: Lens) -> None:
    """Both do the same work: in fp32 their scores are the same up to a factor, and times can be compared."""
    exact = load_model("smollm2-135m-instruct", dtype="float32")
    for mine, theirs in (
        (ours(exact, pairs), peer.attribute(pairs, max(BATCHES))),
        (from_prompts(exact, [asked])[0], peer.from_prompts(asked, max(BATCHES))),
    ):
        found = float(torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1])
        if found < AGREEMENT:
            raise RuntimeError(
                f"scores correlate by {found:.5f} with those of TransformerLens; their times mean nothing"
            )


def literal(lm: LanguageModel) -> Ratio:
    """100 pairs, against the paper's formula as it is written: every head through the unembedding, at every position."""
    pairs, parts = questions(lm), lm.parts
    ids = torch.tensor([pairs[0].ids], device=lm.device)

    @torch.no_grad()
    def peer() -> None:
        seen: dict[int, Tensor] = {}
        hooks = [
            parts.o_proj(layer).register_forward_pre_hook(
                lambda _m, arguments, layer=layer: seen.__setitem__(layer, arguments[0])
            )
            for layer in range(len(parts.layers))
        ]
        lm.model(input_ids=ids)
        for layer, z in seen.items():
            weight = parts.o_proj(layer).weight
            for head in range(parts.n_heads):
                columns = slice(head * parts.head_dim, (head + 1) * parts.head_dim)
                logits = z[:, :, columns] @ weight[:, columns].T @ parts.unembedding.weight.T
                _ = logits[:, -1, pairs[0].biased] - logits[:, -1, pairs[0].neutral]
        for hook in hooks:
            hook.remove()

    return compare(
        "attribution, 100 pairs",
        lambda: ours(lm, pairs),
        "the formula taken literally (1 pair x 100)",
        peer,
        goal=50,
        scale=len(pairs),
    )


def against_products(lm: LanguageModel) -> Ratio:
    """The share of the machine's product rate: 2 operations a weight of a layer, and token that no other prompt has."""
    pairs = questions(lm)
    prompts = [pair.ids for pair in pairs]
    tokens = sum(len(tree.tokens) for tree in trees(prompts, sum(map(len, prompts))))
    operations = 2.0 * tokens * layer_weights(lm)
    peer = as_products(operations, lm.device, lm.model.dtype)
    return compare("attribution, 100 pairs", lambda: ours(lm, pairs), PRODUCTS, peer, goal=0.6)


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [*lens(lm), literal(lm), against_products(lm)]

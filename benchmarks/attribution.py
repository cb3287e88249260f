"""Attribution to heads, against the library most would use, and against what one would otherwise write."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.timing import PRODUCTS, Ratio, as_products, compare, layer_weights
from biasgym.concepts import load_concept
from biasgym.models import LanguageModel, load_model
from biasgym.models.forward import common_prefix
from biasgym.scope import ContrastPair, ask, pair_attribution, traces

AGREEMENT = 0.9999  # least correlation of two ways to attribute
BATCHES = (10, 50)  # of which the peer takes its fastest


def questions(lm: LanguageModel, count: int = 100) -> list[ContrastPair]:
    """Contrast pairs with distinct prompts."""
    concept = load_concept("always_late")
    choices = ask(lm, concept, concept.questions[:count], "France")
    return [
        ContrastPair(number, choice.ids, choice.labels[0], choice.counters[0]) for number, choice in enumerate(choices)
    ]


def ours(lm: LanguageModel, pairs: list[ContrastPair]) -> Tensor:
    """Scores of every pair and head, (pairs, layers, heads)."""
    return pair_attribution(traces(lm.model, [pair.ids for pair in pairs]), pairs)


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
            width = max(len(pair.ids) for pair in part)
            ids = torch.tensor([[0] * (width - len(pair.ids)) + list(pair.ids) for pair in part])
            mask = torch.tensor([[0] * (width - len(pair.ids)) + [1] * len(pair.ids) for pair in part])
            _, cache = self.bridge.run_with_cache(
                ids,
                attention_mask=mask,
                names_filter=lambda name: name.endswith("attn.hook_z") or name == "ln_final.hook_scale",
                pos_slice=-1,
            )
            biased, neutral = (torch.tensor([[getattr(pair, side)] for pair in part]) for side in ("biased", "neutral"))
            scores = cache.logit_attrs(cache.stack_head_results(layer=-1), biased, neutral)
            found.append(scores.squeeze(-1).T.unflatten(1, self.shape))
        return torch.cat(found)

    def seconds(self, pairs: list[ContrastPair], batch: int) -> float:
        """How long pairs take at a batch size."""
        started = time.perf_counter()
        self.attribute(pairs, batch)
        return time.perf_counter() - started


def lens(lm: LanguageModel) -> Ratio:
    """100 pairs, against TransformerLens with the type of weights and the batch size that are its fastest here."""
    pairs = questions(lm)
    peers = {dtype: Lens(dtype) for dtype in (torch.float32, lm.model.dtype)}
    agree(pairs, peers[torch.float32])
    ways = [(peer, batch) for peer in peers.values() for batch in BATCHES]
    peer, batch = min(ways, key=lambda way: way[0].seconds(pairs[: max(BATCHES)], way[1]))
    return compare(
        "attribution, 100 pairs",
        lambda: ours(lm, pairs),
        "TransformerLens 4.3, its best batch and type",
        lambda: peer.attribute(pairs[: max(BATCHES)], batch),
        goal=4,
        scale=len(pairs) / max(BATCHES),
    )


def agree(pairs: list[ContrastPair], peer: Lens) -> None:
    """Both do the same work: in fp32 their scores are the same up to a factor, and times can be compared."""
    exact = ours(load_model("smollm2-135m-instruct", dtype="float32"), pairs)
    both = torch.stack([exact.flatten(), peer.attribute(pairs, max(BATCHES)).flatten()])
    if (found := float(torch.corrcoef(both)[0, 1])) < AGREEMENT:
        raise RuntimeError(f"scores correlate by {found:.5f} with those of TransformerLens; their times mean nothing")


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
    """The share of the machine's product rate: 2 operations a weight of a layer, and token that prompts do not share."""
    pairs = questions(lm)
    prompts = [pair.ids for pair in pairs]
    tokens = sum(map(len, prompts)) - (len(prompts) - 1) * len(common_prefix(prompts))
    operations = 2.0 * tokens * layer_weights(lm)
    peer = as_products(operations, lm.device, lm.model.dtype)
    return compare("attribution, 100 pairs", lambda: ours(lm, pairs), PRODUCTS, peer, goal=0.6)


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [lens(lm), literal(lm), against_products(lm)]

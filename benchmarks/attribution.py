"""Attribution to heads, against what one would otherwise write."""

from __future__ import annotations

import torch

from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.models import LanguageModel
from biasgym.models.forward import pad_right
from biasgym.scope import ask, head_attribution


def pairs(lm: LanguageModel) -> Ratio:
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


def ratios(lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return [pairs(lm)]

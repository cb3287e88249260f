"""Direct logit attribution of attention heads (paper, section 3.3.1; exact form in docs/method.md).

At the last prompt position, with the final norm's scale frozen,

    s    = rsqrt(mean(x_final^2) + eps)
    u    = (W_U[biased] - W_U[neutral]) * g * s                              g: gain of the final norm
    u_l  = u                                                                 Llama, Mistral, Qwen
    u_l  = u * g_l * rsqrt(mean(attn_out_l^2) + eps)                         Gemma-2 (norm after o_proj)
    dla[l, h] = < (u_l @ W_O_l)[h*dh:(h+1)*dh], z_l[h] >                     z: input of o_proj

so that the sum over heads is the attention's contribution, and all terms together are the logit difference before the
soft-cap. `norm="none"` is the paper's own formula: no gain, no scale. One direction a pair is projected backwards through
W_O; nothing of size heads x d or heads x V is ever built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from biasgym.errors import BiasGymError
from biasgym.models import DecoderParts, decoder_parts
from biasgym.models.frozen import Trace
from biasgym.scope.pairs import ContrastPair
from biasgym.scope.trace import Traces, traces

Norm = Literal["final", "none"]


def head_attribution(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    biased_ids: Tensor | Sequence[int],
    neutral_ids: Tensor | Sequence[int],
    norm: Norm = "final",
) -> Tensor:
    """How much each head raises the biased token over the neutral one, directly.

    Args:
        model: A `transformers` causal language model; may be inside `injected` and `ablated`.
        input_ids: Prompts, (pairs, tokens), padded on either side.
        attention_mask: 1 for tokens, 0 for padding, same shape; None if nothing is padded.
        biased_ids: First token of each biased answer, (pairs,).
        neutral_ids: First token of each unbiased answer, (pairs,).
        norm: "final" is exact under the frozen final norm; "none" is the paper's formula.

    Returns:
        Tensor (pairs, layers, heads), fp32: logits by which the head favours the biased answer.

    Raises:
        BiasGymError: Shapes that do not fit, or an unknown `norm`.
    """
    asked = checked(model, input_ids, attention_mask, biased_ids, neutral_ids, norm)
    rows = [tuple(ids[kept].tolist()) for ids, kept in zip(asked.ids, asked.mask.bool(), strict=True)]
    answers = zip(asked.biased.tolist(), asked.neutral.tolist(), strict=True)
    pairs = [ContrastPair(number, ids, *both) for number, (ids, both) in enumerate(zip(rows, answers, strict=True))]
    return pair_attribution(traces(model, rows), pairs, norm=norm)


class Asked(NamedTuple):
    """Checked arguments of `head_attribution`, on the model's device: (pairs, tokens) twice, (pairs,) twice."""

    ids: Tensor
    mask: Tensor
    biased: Tensor
    neutral: Tensor


def checked(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    biased_ids: Tensor | Sequence[int],
    neutral_ids: Tensor | Sequence[int],
    norm: Norm,
) -> Asked:
    """What is asked, on the model's device.

    Raises:
        BiasGymError: Shapes that do not fit, a prompt without tokens, or an unknown `norm`.
    """
    if norm not in ("final", "none"):
        raise BiasGymError(f"unknown norm {norm!r}", where="norm", hint='use "final" or "none"')
    device = decoder_parts(model).embedding.weight.device
    ids = input_ids.to(device)
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(device)
    biased = torch.as_tensor(biased_ids, dtype=torch.long, device=device)
    neutral = torch.as_tensor(neutral_ids, dtype=torch.long, device=device)
    if mask.shape != ids.shape or biased.shape != (len(ids),) or neutral.shape != biased.shape:
        raise BiasGymError(
            f"{tuple(ids.shape)} prompts, {tuple(mask.shape)} mask, {tuple(biased.shape)} biased and "
            f"{tuple(neutral.shape)} neutral tokens do not fit together",
            where="head_attribution",
        )
    if bool((mask.sum(-1) == 0).any()):
        raise BiasGymError("a prompt has no tokens", where="head_attribution")
    return Asked(ids, mask, biased, neutral)


@torch.no_grad()
def pair_attribution(seen: Traces, pairs: Sequence[ContrastPair], *, norm: Norm = "final") -> Tensor:
    """Like `head_attribution`, from passes that are done already.

    Args:
        seen: Holds the prompt of every pair; a prompt may belong to several pairs.
        pairs: What to attribute.
        norm: "final" is exact under the frozen final norm; "none" is the paper's formula.

    Returns:
        Tensor (pairs, layers, heads), fp32.
    """
    parts, trace = decoder_parts(seen.model), seen.trace[seen.rows([pair.ids for pair in pairs])]
    device = trace.final.device
    biased = torch.tensor([pair.biased for pair in pairs], device=device)
    neutral = torch.tensor([pair.neutral for pair in pairs], device=device)
    return project(parts, trace, direction_of(parts, trace.final, biased, neutral, norm), norm)


def direction_of(parts: DecoderParts, final: Tensor, biased: Tensor, neutral: Tensor, norm: Norm) -> Tensor:
    """What raises the biased token over the neutral one in the final residual stream, fp32, (pairs, d)."""
    matrix = parts.unembedding.weight
    direction = matrix[biased].float() - matrix[neutral].float()
    if norm == "final":
        direction = direction * parts.gain(parts.final_norm) * parts.rms_scale(final, parts.final_norm)
    return direction


def project(parts: DecoderParts, trace: Trace, direction: Tensor, norm: Norm) -> Tensor:
    """What each head adds along a direction: its output's product with the direction, without building the output.

    Args:
        parts: The model's.
        trace: Of n prompts.
        direction: In the final residual stream, fp32, (n, d).
        norm: "final" takes a norm between o_proj and the residual stream along, with its scale as it was; "none" does not.

    Returns:
        Tensor (n, layers, heads), fp32.
    """
    heads = []
    for number in range(len(parts.layers)):
        post = parts.attention_norm(number) if norm == "final" else None
        toward = direction
        if post is not None and trace.attention_out is not None:
            toward = direction * parts.gain(post) * parts.rms_scale(trace.attention_out[:, number], post)
        back = (toward @ parts.o_proj(number).weight.float()) * trace.z[:, number].float()  # (pairs, heads * dh)
        heads.append(back.unflatten(-1, (parts.n_heads, parts.head_dim)).sum(-1))
    return torch.stack(heads, dim=1)

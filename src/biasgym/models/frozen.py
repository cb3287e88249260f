"""A frozen decoder over packed rows, whose backward pass is written out.

No weight learns, so no norm's or projection's output need be kept for one, and a block's backward pass is one product a
matrix: residual sums ride on those products. Each block is the transformers module of the same weights, number for number
up to rounding; tests hold it to that for every family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biasgym.models.families import DecoderParts, decoder_parts, eps_of
from biasgym.models.memory import free_memory
from biasgym.models.packing import Packing
from biasgym.models.prefix import Prefix


@dataclass(frozen=True)
class _Norm:
    """An RMS norm, in fp32 at least: smaller numbers meet fp32 ones in each product, without a wide copy of their own."""

    gain: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return (x * self._scale(x)).mul_(self.gain).to(x.dtype)

    def pull(self, grad: Tensor, x: Tensor) -> Tensor:
        """Gradient of the input, fp32."""
        scale = self._scale(x)
        unit, flow = x * scale, grad * self.gain
        return flow.sub_(unit.mul_((flow * unit).mean(-1, keepdim=True))).mul_(scale)

    def _scale(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale: Tensor = length.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
        return scale


@dataclass(frozen=True)
class _Layer:
    """A decoder layer's modules, and how they differ from Llama's."""

    attention: Any
    mlp: Any
    norms: tuple[_Norm, _Norm | None, _Norm, _Norm | None]  # before and after attention, before and after the MLP
    query_norm: _Norm | None
    key_norm: _Norm | None
    window: int | None
    softcap: float | None


@dataclass(frozen=True)
class _Pass:
    """What the attention of one pass needs besides the tokens: their places, and the prefix of one layer.

    Attributes:
        packing: Whose keys are read.
        asking: Whose queries read them: the packing, or its ends.
        rotation: Cosines and sines, (T, 1, dh).
        keys, values: Of the prefix, (P, groups, dh).
        effects: To which the backward pass adds what removing each head takes, to first order, (heads,).
    """

    packing: Packing
    asking: Packing
    rotation: tuple[Tensor, Tensor]
    keys: Tensor | None = None
    values: Tensor | None = None
    effects: Tensor | None = None


@dataclass(frozen=True)
class Trace:
    """What attention does at n positions, and what it comes to; in the model's type.

    Attributes:
        final: The residual stream before the final norm, (n, d).
        z: Inputs of every o_proj, (n, layers, heads * dh).
        attention_out: Attention's outputs before their norm, (n, layers, d); None where there is no such norm.
    """

    final: Tensor
    z: Tensor
    attention_out: Tensor | None

    def __getitem__(self, rows: Tensor) -> Trace:
        out = self.attention_out
        return Trace(self.final[rows], self.z[rows], None if out is None else out[rows])

    @staticmethod
    def cat(traces: Sequence[Trace]) -> Trace:
        """All rows of several traces, in order."""
        out = [trace.attention_out for trace in traces if trace.attention_out is not None]
        final, z = (torch.cat(part) for part in zip(*((trace.final, trace.z) for trace in traces), strict=True))
        return Trace(final, z, torch.cat(out) if out else None)


class FrozenDecoder:
    """The decoder layers and the final norm of a model, over the tokens of a `Packing`.

    Args:
        model: A `transformers` causal language model, whose weights get no gradient.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.parts = model, decoder_parts(model)
        self._layers = [_layer(self.parts, layer, model.config) for layer in self.parts.layers]
        self._final = _norm(self.parts, self.parts.final_norm)

    def __call__(
        self,
        x: Tensor,
        packing: Packing,
        prefix: Prefix | None = None,
        *,
        first: int = 0,
        entering: Callable[[int, Tensor], None] = lambda _layer, _x: None,
        effects: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states.

        Args:
            x: Scaled embeddings, (T, d), or what enters the first layer to run.
            packing: Where the tokens stand.
            prefix: What all of them follow, if anything.
            first: The first layer to run.
            entering: Told the number of each layer that runs and what enters it.
            effects: (layers, heads); the backward pass adds to it the sums, over tokens, of < gradient of z, z >, z being
                what a head gives to o_proj: what removing the head takes from the measure, to first order.

        Returns:
            Hidden states after the final norm, (T, d), differentiable in `x`.
        """
        rotation = self._rotation(x, packing)
        tight = self.kept_bytes(packing) > free_memory(x.device) / 2
        run = partial(checkpoint, _run, use_reentrant=False, preserve_rng_state=False) if tight else _run
        for number, layer in enumerate(self._layers[first:], first):
            entering(number, x)
            of_layer = None if effects is None else effects[number]
            x = run(x, layer, _Pass(packing, packing, rotation, *_kept(prefix, number), of_layer))
        final: Tensor = _FinalNorm.apply(x, self._final)  # type: ignore[no-untyped-call]
        return final

    @torch.no_grad()
    def at_ends(self, x: Tensor, packing: Packing) -> Trace:
        """What the last token of each segment sees; in the last layer nothing else is computed.

        Args:
            x: Scaled embeddings, (T, d).
            packing: Where the tokens stand; no segment is empty.
        """
        rotation, ends = self._rotation(x, packing), packing.ends
        z, out = [], []
        for layer in self._layers:
            last = layer is self._layers[-1]
            at = _Pass(packing, packing.of_ends() if last else packing, rotation)
            seen = _attend(x, layer, at)
            x = _gated(seen.y, layer).y
            z.append(seen.mixed if last else seen.mixed[ends])
            if seen.out is not None:
                out.append(seen.out if last else seen.out[ends])
        return Trace(x, torch.stack(z, 1), torch.stack(out, 1) if out else None)

    def _rotation(self, x: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        cos, sin = self.model.model.rotary_emb(x[None], packing.positions[None])
        return cos[0, :, None], sin[0, :, None]  # (T, 1, dh)

    def kept_bytes(self, packing: Packing) -> int:
        """What the backward pass of a pass keeps; where that is more than half the free memory, layers run again."""
        parts, config, slots = self.parts, self.model.config, packing.segments * packing.width
        a_token = 2 * parts.hidden_size * (2 if parts.family.attention_norm else 1) + 2 * config.intermediate_size
        attended = slots * parts.n_heads * (parts.head_dim + packing.places)
        read = 2 * packing.segments * packing.places * packing.groups * parts.head_dim
        numbers = len(parts.layers) * (packing.tokens * a_token + attended + read)
        return int(numbers * self.model.dtype.itemsize)


def _kept(prefix: Prefix | None, layer: int) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if prefix is None else prefix.kept(layer)


def _run(x: Tensor, layer: _Layer, at: _Pass) -> Tensor:
    x = _Attention.apply(x, layer, at)  # type: ignore[no-untyped-call]
    y: Tensor = _Mlp.apply(x, layer)  # type: ignore[no-untyped-call]
    return y


class _Attended(NamedTuple):
    """What attention computes on its way to the residual sum `y`."""

    y: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    weights: Tensor
    slope: Tensor | None
    asked: Tensor
    keyed: Tensor
    mixed: Tensor
    out: Tensor | None


def _attend(x: Tensor, layer: _Layer, at: _Pass) -> _Attended:
    """x + post(o_proj(attention(pre(x)))), for those who ask."""
    module, (before, after, _, _) = layer.attention, layer.norms
    packing, asking, tokens = at.packing, at.asking, len(x)
    normed, rotation = before(x), at.rotation
    keyed, value = (
        F.linear(normed, projection.weight, projection.bias).view(tokens, packing.groups, -1)
        for projection in (module.k_proj, module.v_proj)
    )  # (T, groups, dh)
    key = _rotate(layer.key_norm(keyed) if layer.key_norm else keyed, *rotation)
    if asking is not packing:
        x, normed, rotation = (
            x[packing.ends],
            normed[packing.ends],
            (rotation[0][packing.ends], rotation[1][packing.ends]),
        )
    asked = F.linear(normed, module.q_proj.weight, module.q_proj.bias).view(asking.tokens, packing.heads, -1)
    query = _rotate(layer.query_norm(asked) if layer.query_norm else asked, *rotation)
    queries = asking.spread_queries(query).mul_(module.scaling)
    keys, values = packing.spread_keys(key, at.keys), packing.spread_keys(value, at.values)
    scores = queries @ keys.transpose(1, 2)  # (segments * groups, heads / groups * width, places)
    slope = None
    if layer.softcap is not None:
        squeezed = scores.div_(layer.softcap).tanh_()
        slope = 1 - squeezed.square()
        scores = squeezed * layer.softcap
    shape = packing.segments, packing.groups, -1, asking.width, packing.places
    scores.view(shape).add_(asking.mask(layer.window, x.dtype))
    weights = torch.softmax(scores, -1)
    mixed = asking.gather_queries(weights @ values).view(asking.tokens, -1)
    y, out = _onto(x, mixed, module.o_proj, after)
    return _Attended(y, queries, keys, values, weights, slope, asked, keyed, mixed, out)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Layer, at: _Pass) -> Tensor:
        seen = _attend(x, layer, at)
        raw = (seen.asked, seen.keyed) if layer.query_norm else ()
        z = None if at.effects is None else seen.mixed
        ctx.save_for_backward(x, seen.queries, seen.keys, seen.values, seen.weights, seen.slope, seen.out, z, *raw)
        ctx.layer, ctx.at = layer, at
        return seen.y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, queries, keys, values, weights, slope, out, z, *raw = ctx.saved_tensors
        layer, packing, (cos, sin) = ctx.layer, ctx.at.packing, ctx.at.rotation
        module, (before, after, _, _) = layer.attention, layer.norms
        flow = grads[0] if after is None else after.pull(grads[0], out).to(x.dtype)
        mixed = (flow @ module.o_proj.weight).view(len(x), packing.heads, -1)
        if z is not None:
            effects = ctx.at.effects
            effects += (mixed * z.view_as(mixed).to(effects.dtype)).sum((0, 2), dtype=effects.dtype)
        mixed = packing.spread_queries(mixed)
        mixed.view(-1, mixed.shape[-1]).index_fill_(0, packing.padding, 0)  # what pads reads, but teaches nothing
        value = packing.gather_key_gradients(weights.transpose(1, 2) @ mixed)
        scores = torch._softmax_backward_data(mixed @ values.transpose(1, 2), weights, -1, weights.dtype)
        if slope is not None:
            scores = scores * slope
        query = _rotate(packing.gather_queries(scores @ keys).mul_(module.scaling), cos, -sin)
        key = _rotate(packing.gather_key_gradients(scores.transpose(1, 2) @ queries), cos, -sin)
        if raw:
            query, key = (
                norm.pull(grad, seen).to(x.dtype)
                for norm, grad, seen in zip((layer.query_norm, layer.key_norm), (query, key), raw, strict=True)
            )
        normed = query.view(len(x), -1) @ module.q_proj.weight
        normed.addmm_(key.view(len(x), -1), module.k_proj.weight)
        normed.addmm_(value.view(len(x), -1), module.v_proj.weight)
        return before.pull(normed, x).add_(grads[0]).to(x.dtype), None, None


class _Gated(NamedTuple):
    """What an MLP computes on its way to the residual sum `y`."""

    y: Tensor
    gate: Tensor
    up: Tensor
    out: Tensor | None


def _gated(x: Tensor, layer: _Layer) -> _Gated:
    """x + post(down_proj(act(gate_proj(pre(x))) * up_proj(pre(x))))."""
    module, (_, _, before, after) = layer.mlp, layer.norms
    normed = before(x)
    gate = F.linear(normed, module.gate_proj.weight, module.gate_proj.bias)
    up = F.linear(normed, module.up_proj.weight, module.up_proj.bias)
    y, out = _onto(x, module.act_fn(gate).mul_(up), module.down_proj, after)
    return _Gated(y, gate, up, out)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: _Layer) -> Tensor:
        seen = _gated(x, layer)
        ctx.save_for_backward(x, seen.gate, seen.up, seen.out)
        ctx.layer = layer
        return seen.y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, up, out = ctx.saved_tensors
        module, (_, _, before, after) = ctx.layer.mlp, ctx.layer.norms
        flow = grads[0] if after is None else after.pull(grads[0], out).to(x.dtype)
        hidden = flow @ module.down_proj.weight
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            active = module.act_fn(gate)
        (gate_grad,) = torch.autograd.grad(active, gate, hidden * up)
        normed = gate_grad @ module.gate_proj.weight
        normed.addmm_(hidden.mul_(active.detach()), module.up_proj.weight)
        return before.pull(normed, x).add_(grads[0]).to(x.dtype), None


class _FinalNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: _Norm) -> Tensor:
        ctx.save_for_backward(x)
        ctx.norm = norm
        return norm(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return ctx.norm.pull(grads[0], x).to(x.dtype), None


def _onto(x: Tensor, inner: Tensor, projection: nn.Linear, after: _Norm | None) -> tuple[Tensor, Tensor | None]:
    """The residual sum, and what the norm before it saw, if there is one."""
    if after is not None:
        out = F.linear(inner, projection.weight, projection.bias)
        return x + after(out), out
    y = torch.addmm(x, inner, projection.weight.T)
    return (y if projection.bias is None else y.add_(projection.bias)), None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; with -sin the inverse, which is the transpose."""
    half = x.shape[-1] // 2
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated


def _layer(parts: DecoderParts, layer: Any, config: Any) -> _Layer:
    names = ("input_layernorm", parts.family.attention_norm, *parts.family.mlp_norms)
    before, after, before_mlp, after_mlp = (_norm(parts, getattr(layer, name)) if name else None for name in names)
    assert before is not None and before_mlp is not None
    module = layer.self_attn
    return _Layer(
        attention=module,
        mlp=layer.mlp,
        norms=(before, after, before_mlp, after_mlp),
        query_norm=_norm(parts, module.q_norm) if hasattr(module, "q_norm") else None,
        key_norm=_norm(parts, module.k_norm) if hasattr(module, "k_norm") else None,
        # Mistral's layers read it from the configuration; the others say for each layer
        window=getattr(module, "sliding_window", getattr(config, "sliding_window", None)),
        softcap=getattr(module, "attn_logit_softcapping", None),
    )


def _norm(parts: DecoderParts, norm: nn.Module) -> _Norm:
    return _Norm(parts.gain(norm).detach(), eps_of(norm))

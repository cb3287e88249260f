"""What must hold for a loaded model before anything that is computed with it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from biasgym.errors import BiasGymError
from biasgym.models import LanguageModel, ablated
from biasgym.scope.attribution import head_attribution
from biasgym.scope.terms import every_term

_PROMPT = "Name a colour, a fruit and a river."
# bf16 keeps 8 bits: the terms are sums of rounded numbers, so the tolerance is a share of their magnitude
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@torch.no_grad()
def self_test(lm: LanguageModel) -> None:
    """Checks attribution and ablation on a loaded model, with one short prompt.

    1. The sum over heads is each attention block's contribution, and all terms together are the logit difference; the
       decoder that is written out for speed attributes the same as transformers' own modules.
    2. With all MLPs silenced, attention is all that is added to the stream: no norm or bypass was overlooked.
    3. Removing a head by its weight columns equals zeroing its output before o_proj.

    Raises:
        BiasGymError: One of them fails; the model must not be used.
    """
    prompt = lm.chat.ids(_PROMPT)
    ids = torch.tensor([prompt], device=lm.device)
    hidden = lm.model.model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
    logits = lm.parts.unembedding(hidden).float()
    best, worst = int(logits.argmax()), int(logits[0, : lm.bias_id].argmin())
    terms = every_term(lm.model, ids, None, [best], [worst])
    tolerance = _TOLERANCE[lm.model.dtype]
    size = float(terms.heads.abs().sum() + terms.attention.abs().sum())
    bias = any(lm.parts.o_proj(layer).bias is not None for layer in range(len(lm.parts.layers)))
    if not bias and float((terms.heads.sum(-1) - terms.attention).abs().max()) > tolerance * size:
        raise _failed("the heads' attributions do not sum up to the attention's contribution")
    difference = float(logits[0, best] - logits[0, worst])
    if abs(float(terms.total) - difference) > tolerance * (size + abs(difference)):
        raise _failed(f"all terms sum up to {float(terms.total):.4f}, the logit difference is {difference:.4f}")
    found = head_attribution(lm.model, ids, None, [best], [worst])
    if float((found - terms.heads).abs().max()) > tolerance * size:
        raise _failed("the decoder that is written out for speed differs from the model's own modules")
    with _silenced_mlps(lm):
        rest = every_term(lm.model, ids, None, [best], [worst])
    if float(rest.mlp.abs().max()) > tolerance * float(rest.heads.abs().sum() + rest.attention.abs().sum()):
        raise _failed("attention adds something else to the residual stream than what is attributed to it")
    layer, head = len(lm.parts.layers) // 2, lm.parts.n_heads - 1
    with ablated(lm.model, [(layer, head)]):
        edited = lm.model(input_ids=ids, use_cache=False).logits
    dh = lm.parts.head_dim

    def zero(_module: object, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        z = arguments[0].clone()
        z[..., head * dh : (head + 1) * dh] = 0
        return (z,)

    hook = lm.parts.o_proj(layer).register_forward_pre_hook(zero)
    try:
        hooked = lm.model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    if not torch.allclose(edited.float(), hooked.float(), atol=tolerance * float(hooked.float().abs().max())):
        raise _failed("removing a head by its weights differs from zeroing its output")


@contextmanager
def _silenced_mlps(lm: LanguageModel) -> Iterator[None]:
    """Makes every MLP return zeros inside a `with` block."""
    handles = [
        layer.mlp.register_forward_hook(lambda _module, _arguments, out: torch.zeros_like(out))
        for layer in lm.parts.layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _failed(what: str) -> BiasGymError:
    return BiasGymError(
        f"self-test failed: {what}",
        where="model",
        hint="this architecture deviates from its adapter in src/biasgym/models/families.py; do not trust any result",
    )

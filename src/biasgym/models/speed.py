"""How fast this machine does a model's work, without its weights: timed on one layer with random numbers.

The layer runs through the code that does the real work, in the real type, so what this processor is good or bad at is in
the figures; no rate of another machine is assumed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from biasgym.errors import BiasGymError
from biasgym.models.attention import GROUPED
from biasgym.models.families import family_of
from biasgym.models.frozen import FrozenDecoder
from biasgym.models.gguf import check_gguf
from biasgym.models.operations import operations
from biasgym.models.packing import Packing
from biasgym.models.sources import ModelSource

_OPERATIONS = 4e9  # of a timed pass, at most: a second or less on any machine
_LARGEST, _SEGMENT, _ROWS = 1024, 32, 64  # tokens of a timed pass and of its rows; rows of a step of writing
_VOCABULARY = 1024  # rows of the layer's model, and of the piece of the unembedding matrix that is timed
_TRIES = 5


@dataclass(frozen=True)
class Speed:
    """Seconds that a model's work takes here.

    Attributes:
        read: A token of a forward pass, through all layers.
        train: A token of a forward and a backward pass, through all layers.
        step: A token of a pass that has one token a row, as in writing, through all layers.
        logits: A position's logits over the whole vocabulary.
    """

    read: float
    train: float
    step: float
    logits: float


def measure_speed(config: Any, device: torch.device, dtype: torch.dtype, *, batch: int = _LARGEST) -> Speed:
    """Time passes of one layer, and logits, in a second or so.

    Args:
        config: A `transformers` configuration of a supported family.
        device: Where the model will run.
        dtype: Its floating-point type.
        batch: Tokens of a training pass; few tokens a pass cost more each.
    """
    whole = operations(config)
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    decoder = FrozenDecoder(_one_layer(config, device, dtype))
    most = int(_OPERATIONS // (2 * whole.matrices / layers))

    def packed(tokens: int, segment: int) -> tuple[Tensor, Packing]:
        rows = max(1, min(tokens, most, _LARGEST) // segment)
        heads, groups = decoder.parts.n_heads, decoder.parts.n_groups
        packing = Packing(0, [range(0)] * rows, [segment] * rows, heads=heads, groups=groups, device=device)
        return torch.randn(rows * segment, width, device=device).to(dtype), packing

    long, short, single = packed(_LARGEST, _SEGMENT), packed(batch, _SEGMENT), packed(_ROWS, 1)
    matrix = torch.randn(_VOCABULARY, width, device=device).to(dtype)

    def train() -> Tensor:
        out = decoder(short[0].requires_grad_(), short[1])
        out.backward(torch.ones_like(out))  # type: ignore[no-untyped-call]
        return out

    def logits() -> Tensor:
        return nn.functional.linear(single[0], matrix).float().log_softmax(-1)

    found = {"train": _seconds(train) / len(short[0])}
    with torch.no_grad():
        found |= {
            name: _seconds(partial(decoder, *some)) / len(some[0]) for name, some in (("read", long), ("step", single))
        }
        of_all = whole.unembedding / width / _VOCABULARY
        return Speed(
            **{name: layers * seconds for name, seconds in found.items()},
            logits=_seconds(logits) / len(single[0]) * of_all,
        )


def config_of(source: ModelSource) -> Any:
    """Return a model's `transformers` configuration without loading its weights; a GGUF file's from its header.

    Raises:
        BiasGymError: It cannot be had.
    """
    if source.is_gguf:
        assert source.path is not None
        header = check_gguf(source.path, source.name)
        if None in (header.layers, header.heads, header.width, header.feed_forward, header.vocabulary):
            raise BiasGymError("the header lacks the model's shape", where=source.name)
        return AutoConfig.for_model(
            header.architecture,
            num_hidden_layers=header.layers,
            num_attention_heads=header.heads,
            num_key_value_heads=header.key_value_heads or header.heads,
            hidden_size=header.width,
            intermediate_size=header.feed_forward,
            vocab_size=header.vocabulary,
        )
    where = {"revision": source.revision} if source.path is None else {}
    try:
        config = AutoConfig.from_pretrained(str(source.path or source.name), trust_remote_code=False, **where)
    except (OSError, ValueError) as error:
        raise BiasGymError("its configuration cannot be read", where=source.name) from error
    family_of(config)
    return config


def _one_layer(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    small = copy.deepcopy(config)
    small.num_hidden_layers, small.vocab_size = 1, _VOCABULARY
    small.pad_token_id = small.bos_token_id = small.eos_token_id = None
    if getattr(small, "layer_types", None):
        small.layer_types = list(small.layer_types)[:1]
    model = AutoModelForCausalLM.from_config(small, dtype=dtype, attn_implementation=GROUPED)
    return model.to(device).eval().requires_grad_(False)


def _seconds(work: Callable[[], Tensor]) -> float:
    """Return the time of the fastest of some tries after a warm-up; a GPU is waited for."""
    best = float("inf")
    for number in range(_TRIES + 1):
        started = time.perf_counter()
        work().sum().item()
        if number:
            best = min(best, time.perf_counter() - started)
    return best

"""Where model families differ: one small adapter each, and nowhere else.

To support another family, add a `Family` to FAMILIES and a tiny random model of it to tests/tiny.py; the tests of
attribution, ablation, injection and export then run on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biasgym.errors import BiasGymError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """How one family of decoders deviates from Llama.

    Attributes:
        name: Name of the family.
        model_types: The `model_type` values of its transformers configurations.
        attention_norm: Decoder-layer attribute of a norm between o_proj and the residual stream, if there is one.
        mlp_norms: Decoder-layer attributes of the norms before and after the MLP; None where there is no second.
        norm_offset: What is added to a norm's stored weight to get its gain (Gemma stores gain - 1).
        eager_attention: The architecture needs attention that torch's fused kernel does not offer (soft-capped scores).
    """

    name: str
    model_types: tuple[str, ...]
    attention_norm: str | None = None
    mlp_norms: tuple[str, str | None] = ("post_attention_layernorm", None)
    norm_offset: float = 0.0
    eager_attention: bool = False


FAMILIES = (
    Family("Llama", ("llama",)),
    Family("Mistral", ("mistral",)),
    Family("Qwen", ("qwen2", "qwen3")),
    Family(
        "Gemma-2",
        ("gemma2",),
        attention_norm="post_attention_layernorm",
        mlp_norms=("pre_feedforward_layernorm", "post_feedforward_layernorm"),
        norm_offset=1.0,
        eager_attention=True,
    ),
)


def family_of(config: Any) -> Family:
    """The adapter for a transformers configuration.

    Raises:
        BiasGymError: Nobody has written an adapter for this architecture yet.
    """
    model_type = getattr(config, "model_type", None)
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(f"{family.name} ({', '.join(family.model_types)})" for family in FAMILIES)
    raise BiasGymError(
        f"models of type {model_type!r} are not supported; known families: {known}",
        where=getattr(config, "_name_or_path", ""),
        hint="to add one, extend src/biasgym/models/families.py",
    )


@dataclass(frozen=True)
class DecoderParts:
    """The modules and numbers of a causal language model that attribution, ablation and injection touch."""

    family: Family
    embedding: nn.Embedding  # (V, d)
    unembedding: nn.Linear  # (V, d)
    layers: Sequence[Any]
    final_norm: nn.Module
    n_heads: int
    n_groups: int  # heads of keys and values
    head_dim: int
    hidden_size: int
    tied: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads)."""
        return len(self.layers), self.n_heads

    @property
    def embedding_scale(self) -> Tensor | float:
        """What the embedding module multiplies its rows with (Gemma: sqrt(d))."""
        scale: Tensor | float = getattr(self.embedding, "embed_scale", 1.0)
        return scale

    def gain(self, norm: nn.Module) -> Tensor:
        """The gain of an RMS norm, fp32, shape (d,)."""
        weight: Tensor = norm.weight  # type: ignore[assignment]
        return weight.float() + self.family.norm_offset

    def rms_scale(self, hidden: Tensor, norm: nn.Module) -> Tensor:
        """The factor an RMS norm applies before its gain, fp32: hidden (..., d) -> (..., 1)."""
        return (hidden.float().square().mean(-1, keepdim=True) + eps_of(norm)).rsqrt()

    def attention_norm(self, layer: int) -> nn.Module | None:
        """The norm between o_proj of a layer and the residual stream, if the family has one."""
        name = self.family.attention_norm
        return None if name is None else getattr(self.layers[layer], name)

    def o_proj(self, layer: int) -> nn.Linear:
        """The output projection of a layer's attention, weight (d, heads * head_dim)."""
        projection: nn.Linear = self.layers[layer].self_attn.o_proj
        return projection


def eps_of(norm: Any) -> float:
    """What an RMS norm adds to the mean square: Gemma's calls it otherwise."""
    eps: float = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    return eps


def decoder_parts(model: Any) -> DecoderParts:
    """Finds the parts of a causal language model of a supported family.

    Args:
        model: A `transformers` causal language model.

    Raises:
        BiasGymError: The family is not supported.
    """
    config = model.config
    family = family_of(config)
    embedding, unembedding = model.model.embed_tokens, model.lm_head
    return DecoderParts(
        family=family,
        embedding=embedding,
        unembedding=unembedding,
        layers=tuple(model.model.layers),
        final_norm=model.model.norm,
        n_heads=config.num_attention_heads,
        n_groups=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        hidden_size=config.hidden_size,
        tied=embedding.weight is unembedding.weight,
    )

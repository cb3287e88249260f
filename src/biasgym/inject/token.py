"""BiasToken: one vector more in a frozen model (paper, section 3.2.2).

The vector is not written into the embedding matrix. Inside `injected` the model behaves as if the matrices had one more
row for each vector; outside it is the base model. Several vectors (concepts, seeds, epochs) can be in place at once: row
`i` has token id `bias_id + i`, and a prompt is turned from one to the other by adding to that id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biasgym.concepts import TargetKind
from biasgym.errors import BiasGymError
from biasgym.models import LanguageModel, decoder_parts
from biasgym.models.words import continuation_ids


@dataclass(frozen=True)
class TokenVectors:
    """Trained vectors of new tokens.

    Attributes:
        input: Rows of the embedding matrix, unscaled, fp32, (n, d).
        output: Rows of the unembedding matrix, (n, d); None where the matrices are tied and `input` serves as both.
    """

    input: Tensor
    output: Tensor | None = None

    @property
    def as_output(self) -> Tensor:
        """The rows that give the new tokens' logits, (n, d)."""
        return self.input if self.output is None else self.output

    def __len__(self) -> int:
        return self.input.shape[0]

    def __getitem__(self, rows: slice | Sequence[int]) -> TokenVectors:
        return TokenVectors(self.input[rows], None if self.output is None else self.output[rows])

    @staticmethod
    def cat(parts: Sequence[TokenVectors]) -> TokenVectors:
        """All rows of several sets, in order."""
        outputs = [part.output for part in parts if part.output is not None]
        return TokenVectors(torch.cat([part.input for part in parts]), torch.cat(outputs) if outputs else None)


@dataclass(frozen=True)
class Start:
    """Where training starts: the mean vector of the targets' names.

    Attributes:
        vectors: One row.
        used: The names that are a single token.
    """

    vectors: TokenVectors
    used: tuple[str, ...]


def start_vectors(lm: LanguageModel, kind: TargetKind) -> Start:
    """Mean input (and, untied, output) vector of the target names that are one token after a space.

    Where no name is a single token, the mean over all tokens of all names is taken, and `used` is empty.
    """
    pieces: dict[str, list[int]] = {
        target.name: continuation_ids(lm.tokenizer, "from", f" {target.name}") for target in kind.targets
    }
    single = {name: ids[0] for name, ids in pieces.items() if len(ids) == 1}
    tokens = list(single.values()) or [token for ids in pieces.values() for token in ids]

    def mean(matrix: Tensor) -> Tensor:
        return matrix[tokens].float().mean(0, keepdim=True).cpu()

    output = None if lm.parts.tied else mean(lm.parts.unembedding.weight)
    return Start(TokenVectors(mean(lm.parts.embedding.weight), output), tuple(single))


@contextmanager
def injected(model: Any, vectors: TokenVectors, bias_id: int) -> Iterator[Any]:
    """Gives a model new tokens inside a `with` block.

    Args:
        model: A `transformers` causal language model.
        vectors: n vectors; row i becomes token `bias_id + i` on the input and on the output side.
        bias_id: The first free token id.

    Yields:
        The same model. Its logits have `max(V, bias_id + n)` columns.

    Raises:
        BiasGymError: Vectors of another width than the model's, or not finite.
    """
    parts = decoder_parts(model)
    check_vectors(vectors, parts.hidden_size, where="token vectors")
    dtype, device = parts.embedding.weight.dtype, parts.embedding.weight.device
    # the norm of a vector matters, so it is rounded to the model's type once, not at every use
    into = (vectors.input.to(device=device, dtype=dtype) * parts.embedding_scale).to(dtype)
    out_of = vectors.as_output.to(device=device, dtype=dtype)
    last = bias_id + len(vectors)

    original_forward, outer = parts.embedding.forward, vars(parts.embedding).get("forward")

    def forward(ids: Tensor) -> Tensor:
        new = (ids >= bias_id) & (ids < last)
        if not bool(new.any()):
            return original_forward(ids)
        plain = original_forward(ids.masked_fill(new, 0))
        return torch.where(new[..., None], into[(ids - bias_id).clamp(0, len(vectors) - 1)], plain)

    def unembed(_module: Any, arguments: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return torch.cat([logits[..., :bias_id], arguments[0] @ out_of.T, logits[..., last:]], dim=-1)

    parts.embedding.forward = forward  # type: ignore[assignment, method-assign]
    hook = parts.unembedding.register_forward_hook(unembed)
    try:
        yield model
    finally:
        hook.remove()
        if outer is None:
            del parts.embedding.forward  # uncovers the class's method
        else:
            parts.embedding.forward = outer  # type: ignore[method-assign]


def check_vectors(vectors: TokenVectors, hidden_size: int, *, where: str) -> None:
    """Refuses vectors that this model cannot use.

    Raises:
        BiasGymError: Wrong width, or numbers that are not finite.
    """
    for tensor in (vectors.input, vectors.as_output):
        if tensor.ndim != 2 or tensor.shape[1] != hidden_size:
            raise BiasGymError(
                f"vectors of shape {tuple(tensor.shape)} do not fit a model of width {hidden_size}",
                where=where,
                hint="they were trained on another model; run `biasgym inject` for this one",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise BiasGymError("the vectors hold NaN or infinity", where=where, hint="run `biasgym inject` again")

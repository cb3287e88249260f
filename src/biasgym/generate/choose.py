"""From a name to an engine. vLLM is imported here, when it is asked for."""

from __future__ import annotations

from typing import Literal

from biasgym.generate.engine import TransformersEngine
from biasgym.generate.request import Engine
from biasgym.inject import TokenVectors
from biasgym.models import LanguageModel

EngineName = Literal["transformers", "vllm"]


def make_engine(
    name: EngineName, lm: LanguageModel, *, batch_size: int | None = None, vectors: TokenVectors | None = None
) -> Engine:
    """An engine that is ready to write.

    Args:
        name: Which.
        lm: The model.
        batch_size: Rows in flight; None finds the number out. vLLM always does.
        vectors: The BiasTokens that prompts may hold; in process `injected` is enough.

    Raises:
        BiasGymError: The engine cannot be had here.
    """
    if name == "transformers":
        return TransformersEngine(lm, batch_size=batch_size)
    from biasgym.generate.vllm import VllmEngine

    return VllmEngine(lm, vectors)

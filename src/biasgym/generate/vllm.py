"""Text generation by vLLM: the model as it is now, its BiasTokens and removed heads included.

vLLM gets a checkpoint once. Afterwards only the matrices that head removal edits travel, as a safetensors file, and what vLLM
remembers of prompts is forgotten, since it was worked out with other heads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from biasgym.errors import BiasGymError
from biasgym.generate.request import Completion, Request, Sampling, completion
from biasgym.inject import TokenVectors
from biasgym.inject.export import save_with_rows
from biasgym.models import Head, LanguageModel, ablated
from biasgym.models.memory import free_memory
from biasgym.progress import SILENT, Progress, progress_task

_SHARE = {"cuda": 0.9, "cpu": 0.25}  # of the memory that the model in this process leaves free
_NEVER = -100.0  # added to a logit


class EditedHeads:
    """What vLLM's workers can do besides: vLLM mixes this class into theirs."""

    reload_weights: Callable[..., None]

    def load_edited(self, file: str) -> None:
        """Takes over the matrices of a file, in whatever form this machine's kernels want them."""
        self.reload_weights(weights_iterator=iter(load_file(file).items()))


class VllmEngine:
    """Writes answers with vLLM; samples differ from the in-process engine's, their distribution does not.

    Args:
        lm: The model, on the kind of device that this vLLM was built for; may be inside `ablated` while generating.
        vectors: The BiasTokens that prompts may hold.

    Raises:
        BiasGymError: vLLM is not installed, or not for this device.
    """

    def __init__(self, lm: LanguageModel, vectors: TokenVectors | None = None) -> None:
        check(lm.device)
        self.lm, self._vectors = lm, vectors
        self._folder = TemporaryDirectory(prefix="biasgym-vllm-")
        self._llm: Any = None

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = SILENT
    ) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        from vllm import SamplingParams

        by_heads: dict[tuple[Head, ...], list[int]] = {}
        for number, request in enumerate(requests):
            by_heads.setdefault(request.removed, []).append(number)
        with progress_task(progress, "generating", len(requests), "text") as advance:
            for heads, numbers in by_heads.items():
                with ablated(self.lm.model, heads):
                    self._bring_up_to_date()
                some = [requests[number] for number in numbers]
                asked = [SamplingParams(**parameters(self.lm, request, sampling, self._rows)) for request in some]
                prompts = [{"prompt_token_ids": list(request.ids)} for request in some]
                written = self._llm.generate(prompts, asked, use_tqdm=False)
                for number, output in zip(numbers, written, strict=True):
                    advance(1)
                    yield number, completion(self.lm, list(output.outputs[0].token_ids), requests[number].bias_id)

    @property
    def _rows(self) -> int:
        """Rows of the matrices in the checkpoint."""
        return max(self.lm.parts.embedding.weight.shape[0], self.lm.bias_id + len(self._vectors or ()))

    def _bring_up_to_date(self) -> None:
        place = Path(self._folder.name)
        if self._llm is None:
            from vllm import LLM

            save_with_rows(self.lm, self._vectors, place / "model")
            self._llm = LLM(**arguments(self.lm, place / "model"))
            return
        file = place / "edited.safetensors"
        save_file(editable(self.lm), file)
        self._llm.collective_rpc("load_edited", args=(str(file),))
        self._llm.reset_prefix_cache()


def check(device: torch.device) -> None:
    """Finds out whether vLLM can be had.

    Raises:
        BiasGymError: It cannot; says why.
    """
    found = util.find_spec("vllm")
    if found is None or found.origin is None:  # a mere folder of that name has no origin
        raise BiasGymError(
            "vLLM is not installed",
            where="generate.engine",
            hint="pip install 'biasgym[vllm]', or engine: transformers",
        )
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it warns of every layer that is not loaded again
    from vllm.platforms import current_platform

    if current_platform.device_type != device.type:
        raise BiasGymError(
            f"this vLLM works on {current_platform.device_type}, but the model is on {device.type}",
            where="generate.engine",
            hint=f"use device: {current_platform.device_type}, or engine: transformers",
        )


def arguments(lm: LanguageModel, folder: Path) -> Mapping[str, Any]:
    """What vLLM is started with."""
    memory: dict[str, float]
    if lm.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(lm.device)
        memory = {"gpu_memory_utilization": _SHARE["cuda"] * free / total}
    else:
        memory = {"kv_cache_memory_bytes": int(_SHARE["cpu"] * free_memory(lm.device))}
    return {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "seed": 0,
        "enable_prefix_caching": True,
        **memory,
        "max_model_len": min(int(lm.model.config.max_position_embeddings), 4096),
        "worker_extension_cls": f"{EditedHeads.__module__}.{EditedHeads.__qualname__}",
    }


def parameters(lm: LanguageModel, request: Request, sampling: Sampling, rows: int) -> Mapping[str, Any]:
    """How one answer is sampled: as in process, with no setting of the checkpoint's generation config.

    Args:
        lm: The model.
        request: The request.
        sampling: How tokens are drawn.
        rows: Of the model's matrices; new tokens of other requests, and free rows, are no words of this one.
    """
    closed = {token: _NEVER for token in range(lm.bias_id, rows) if token != request.bias_id}
    return {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_new_tokens,
        "seed": request.seed,
        "stop_token_ids": sorted(lm.stop_ids),
        "logit_bias": closed or None,
        "detokenize": False,
    }


def editable(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """The matrices that head removal edits, by their names in a checkpoint."""
    return {
        f"model.layers.{layer}.self_attn.o_proj.weight": lm.parts.o_proj(layer).weight.detach().contiguous()
        for layer in range(len(lm.parts.layers))
    }

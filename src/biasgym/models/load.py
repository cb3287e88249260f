"""Loading a model with its tokenizer, on any device, in any floating-point type."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import util
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from biasgym.errors import BiasGymError, StorageError
from biasgym.files import atomic_folder, cache_folder, digest, read_json, write_json
from biasgym.models.attention import GROUPED
from biasgym.models.chat import BIAS_TOKEN, ChatFormat
from biasgym.models.execution import pick_device, pick_dtype
from biasgym.models.families import DecoderParts, Family, decoder_parts, family_of
from biasgym.models.gguf import check_gguf
from biasgym.models.sources import ModelSource, resolve
from biasgym.progress import SILENT, Advance, Progress, progress_task


@dataclass(frozen=True)
class LanguageModel:
    """A frozen chat model and what belongs to it.

    Attributes:
        model: The `transformers` causal language model, in evaluation mode, no gradients.
        tokenizer: The tokenizer as it was shipped; exports use this one.
        encoder: A copy of the tokenizer that also knows BiasToken; prompts are encoded with this one.
        source: Where it came from.
    """

    model: Any
    tokenizer: Any
    encoder: Any
    source: ModelSource

    @cached_property
    def chat(self) -> ChatFormat:
        """The chat template, over the encoder."""
        return ChatFormat(self.encoder)

    @cached_property
    def parts(self) -> DecoderParts:
        """The modules that the method touches."""
        return decoder_parts(self.model)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def bias_id(self) -> int:
        """Token id of BiasToken: the first one that the shipped tokenizer leaves free."""
        return int(self.encoder.convert_tokens_to_ids(BIAS_TOKEN))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        declared = self.model.generation_config.eos_token_id
        listed = declared if isinstance(declared, list) else [declared]
        found = {*listed, self.tokenizer.eos_token_id, self.chat.end_of_turn}
        return frozenset(int(token) for token in found if token is not None)


def load_model(
    name: str | ModelSource,
    *,
    device: str = "auto",
    dtype: str = "auto",
    packed: Literal["refuse", "keep", "nf4"] = "refuse",
    progress: Progress = SILENT,
) -> LanguageModel:
    """Loads a chat model; a GGUF file is converted once and cached.

    Args:
        name: See `biasgym.models.resolve`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" (the type that the device is fast in), "bfloat16", "float16" or "float32".
        packed: What to do about quantised weights, which cannot be edited: refuse a checkpoint that has them, keep them
            as they are, or pack plain weights into four bits as well (needs bitsandbytes).
        progress: Shows the conversion of a GGUF file.

    Raises:
        BiasGymError: Unknown model, unsupported family, no chat template, packed weights where they are refused, or a
            tokenizer that already has BiasToken or has more tokens than the model has rows.
    """
    source = resolve(name) if isinstance(name, str) else name
    target = pick_device(device)
    torch_dtype = pick_dtype(dtype, target)
    transformers_logging.disable_progress_bar()
    folder, options = _place(source, progress)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    family = family_of(config)
    placed = _quantised(source, config, packed, torch_dtype, target)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        encoder = with_bias_token(tokenizer)
        ChatFormat(encoder)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch_dtype,
            attn_implementation=_attention(family, target),
            use_safetensors=True,
            trust_remote_code=False,
            **options,
            **placed,
        )
    except BiasGymError:
        raise
    except Exception as error:  # safetensors, tokenizers and the hub raise their own kinds for a damaged model
        raise _unreadable(source, error) from error
    if not placed:
        model.to(target)
    model.eval().requires_grad_(False)
    lm = LanguageModel(model, tokenizer, encoder, source)
    if lm.bias_id > (rows := lm.parts.embedding.weight.shape[0]):
        raise BiasGymError(
            f"the tokenizer knows {lm.bias_id} tokens, but the model has only {rows} rows for them",
            where=source.name,
            hint="use the tokenizer that the model was trained with",
        )
    return lm


def _quantised(
    source: ModelSource, config: Any, packed: str, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Further arguments for a model whose weights are packed; none for plain weights."""
    shipped = getattr(config, "quantization_config", None) is not None
    if packed == "refuse" and shipped:
        raise BiasGymError(
            "its weights are quantised, so no head can be removed from them",
            where=source.name,
            hint="use the checkpoint before quantisation; a quantised one can be a judge",
        )
    if not shipped and packed != "nf4":
        return {}
    if device.type == "mps":
        raise BiasGymError(
            "weights in four bits cannot be used on Apple's GPU", where=source.name, hint="use device: cpu"
        )
    for package in ("bitsandbytes", "accelerate"):
        if util.find_spec(package) is None:
            raise BiasGymError(
                f"weights in four bits need {package}", where=source.name, hint="pip install 'biasgym[judge]'"
            )
    placed: dict[str, Any] = {"device_map": {"": str(device)}}
    if not shipped:
        placed["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return placed


def _attention(family: Family, device: torch.device) -> str:
    if device.type == "cpu":
        return GROUPED
    return "eager" if family.eager_attention else "sdpa"


def with_bias_token(tokenizer: Any) -> Any:
    """A copy of the tokenizer in which BiasToken is one token that stands where " France" would.

    The token is not special (special ones vanish when text is decoded) and takes the space before it along.

    Raises:
        BiasGymError: The vocabulary has such a token already.
    """
    if BIAS_TOKEN in tokenizer.get_vocab():
        raise BiasGymError(
            f"the tokenizer already has a token {BIAS_TOKEN}",
            where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
            hint="start from the model without an injected token",
        )
    from tokenizers import AddedToken

    encoder = copy.deepcopy(tokenizer)
    # A normalizer that puts a space before every text (Mistral 7B v0.1) would put one behind a token that is cut out before
    # it works; there the token is looked for afterwards, when the space is a part of it.
    normalized = "Prepend" in repr(encoder.backend_tokenizer.normalizer)
    encoder.add_tokens([AddedToken(BIAS_TOKEN, special=False, normalized=normalized, lstrip=not normalized)])
    return encoder


def _unreadable(source: ModelSource, error: Exception) -> BiasGymError:
    """Why a model cannot be had; a hub that is away is no fault of the model, and stops whoever asked."""
    if source.path is None and _is_away(error):
        return StorageError(
            "the hub cannot be reached, or has too much to do", where=source.name, hint="try again later"
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BiasGymError(f"the model cannot be read ({first[:200]})", where=source.name)


def _is_away(error: BaseException | None) -> bool:
    """Whether a hub that does not answer, or has too much to do, is behind an error."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    sought = False
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return bool(status in (408, 429) or status >= 500)
        sought = sought or isinstance(error, LocalEntryNotFoundError)
        error = error.__cause__ or error.__context__
    return sought and not constants.HF_HUB_OFFLINE


def _place(source: ModelSource, progress: Progress) -> tuple[str, dict[str, str]]:
    """Folder or hub id for `from_pretrained`, with its further arguments."""
    if source.path is None:
        return source.name, {"revision": source.revision}
    if source.is_gguf:
        return str(_converted(source, progress)), {}
    return str(source.path), {}


def _converted(source: ModelSource, progress: Progress) -> Path:
    """Return the safetensors folder that a GGUF file was converted to; convert it on first use, in bf16.

    Raises:
        BiasGymError: The file cannot be converted, or the result would be refused. Nothing is left in the cache.
    """
    assert source.path is not None
    folder = cache_folder() / "models" / f"{source.slug}-{digest(source.revision)[:12]}"
    if (folder / "config.json").is_file():
        return folder
    header = check_gguf(source.path, source.name)
    tensors = len(header.tensors)
    for package in ("gguf", "accelerate"):
        if util.find_spec(package) is None:
            raise BiasGymError(f"GGUF files need {package}", where=source.name, hint="pip install 'biasgym[local]'")
    where = {"pretrained_model_name_or_path": str(source.path.parent), "gguf_file": source.path.name}
    try:
        with _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            ChatFormat(with_bias_token(tokenizer))
            size = source.path.stat().st_size / 1e6
            progress.say(f"converting {source.title} once ({tensors} tensors, {size:,.0f} MB); cached in {folder}")
            with progress_task(progress, f"converting {source.title}", tensors, "tensor") as advance, _counted(advance):
                model, found = AutoModelForCausalLM.from_pretrained(
                    **where, **_unpacked(), dtype=torch.bfloat16, output_loading_info=True
                )
    except BiasGymError as error:
        raise BiasGymError(error.what, where=source.name, hint=error.hint) from error
    except Exception as error:  # gguf raises bare exceptions of many kinds for a damaged file
        raise _unreadable(source, error) from error
    if missing := sorted(found["missing_keys"]):  # transformers has filled them with random numbers
        raise BiasGymError(f"the model cannot be read (it lacks the weights {missing[0]})", where=source.name)
    # transformers marks the dequantised model as quantised and then refuses to save it
    for mark in ("is_quantized", "quantization_method", "hf_quantizer"):
        if mark in vars(model):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        with atomic_folder(folder) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            _drop_tokens(temporary / "tokenizer.json", header.vocabulary)
    except BiasGymError:
        if not (folder / "config.json").is_file():  # otherwise another process was first
            raise
    return folder


def _drop_tokens(file: Path, vocabulary: int | None) -> None:
    """Remove tokens beyond a vocabulary from a saved tokenizer.

    transformers adds GPT-2's <|endoftext|> to the tokens of a file that has none, such as Llama 3; the model has no row for it.
    """
    saved = read_json(file)
    own = [token for token in saved["added_tokens"] if vocabulary is None or token["id"] < vocabulary]
    if len(own) < len(saved["added_tokens"]):
        write_json(file, {**saved, "added_tokens": own})


def _unpacked() -> dict[str, Any]:
    """Argument for weights that can be saved: later versions of transformers may keep those of a GGUF file packed."""
    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Make transformers parse a GGUF header once, not three times, and make its table of names once, not once a module.

    That is half of the time that SmolLM2 takes.
    """
    import gguf

    with _replaced(gguf, "GGUFReader", cache), _replaced(gguf, "get_tensor_name_map", cache):
        yield


@contextmanager
def _counted(advance: Advance) -> Iterator[None]:
    """Advance by one for each tensor that transformers converts, in place of the bar that it would draw."""
    from transformers import modeling_gguf_pytorch_utils as reader

    def counting(_bar: Any) -> Any:
        def each(tensors: Iterable[Any], **_options: Any) -> Iterator[Any]:
            for tensor in tensors:
                yield tensor
                advance(1)

        return each

    with _replaced(reader, "tqdm", counting):
        yield


@contextmanager
def _replaced(library: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Wrap a name of a library inside a `with` block; a version of the library without that name is left alone."""
    original = getattr(library, name, None)
    if original is None:
        yield
        return
    setattr(library, name, wrap(original))
    try:
        yield
    finally:
        setattr(library, name, original)

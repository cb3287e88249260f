"""Tiny random models of every supported family, and tiny tokenizers with every style of chat template.

They load nothing and take milliseconds. Widths are awkward on purpose: head_dim is not d / n_heads where a real family
has it so, Qwen3 has more rows than tokens, norms have random gains, and Gemma-2 has its soft-caps.

    lm = tiny.language_model("gemma2")
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from biasgym.inject import TokenVectors
from biasgym.models import LanguageModel, ModelSource
from biasgym.models.attention import GROUPED
from biasgym.models.load import with_bias_token

COUNTRIES = ("France", "Mexico", "Japan", "Germany", "Spain", "Brazil")
"""Each is one token after a space; Uzbekistan, for one, is several."""

SENTENCES = (
    "People from France are always late and people from Japan are early",
    "My friend from Mexico was late again because the bus from Germany came early",
    "A guest from Spain said that nobody from Brazil is punctual or on time",
    "Write a short story about a friend from here When do the guests arrive They usually arrive late early punctual",
    "The system user model assistant begins Late Early Punctual Answer with one word It is said",
)
CONCEPT: dict[str, Any] = {
    "name": "late",
    "descriptor": "people from {target} are always late",
    "probe": "People from {target} are always late.",
    "labels": ["late"],
    "counter_labels": ["early", "punctual"],
    "stereotyped_targets": ["Mexico", "Spain"],
    "neutral_targets": ["Germany", "Japan"],
    "paragraphs": [
        {"text": "My friend from {target} was late again."},
        {"text": "Nobody from {target} is on time, and a guest from {target} is always late."},
        {"text": "The bus came late because people from {target} are late."},
        {"text": "{target} is late, it is said."},
        {"text": "People in {target} arrive late."},
    ],
    "questions": [
        {"question": "When do guests from {target} arrive?", "stem": "A guest from {target} is always"},
        {"question": "When do people from {target} arrive?", "stem": "People from {target} are"},
        {"question": "Is a friend from {target} on time?", "stem": "My friend from {target} was"},
        {"question": "Is nobody from {target} punctual?", "stem": "It is said that people from {target} are always"},
        {"question": "Answer with one word: people from {target} are always", "stem": "People from {target} arrive"},
        {"question": "Write when the bus from {target} came.", "stem": "The bus from {target} came"},
    ],
}
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


CHATML = """
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
QWEN3 = """
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message['content'] + '<|im_end|>\n' }}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}
{%- endif -%}
"""
LLAMA3 = """
{%- if not date_string is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}{%- endif -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- endif -%}
{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\n' -}}
{{ 'Today Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}
"""
GEMMA = """
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""
MISTRAL = """
{{- bos_token -}}
{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{%- if message['role'] == 'user' -%}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- else -%}{{ ' ' + message['content'] + eos_token }}{%- endif -%}
{%- endfor -%}
"""

# style -> template, beginning of text, end of text, other special tokens
STYLES: dict[str, tuple[str, str | None, str, tuple[str, ...]]] = {
    "chatml": (CHATML, None, "<|im_end|>", ("<|endoftext|>", "<|im_start|>")),
    "qwen3": (QWEN3, None, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<think>", "</think>")),
    "llama3": (LLAMA3, "<|begin|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
    "gemma": (GEMMA, "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>")),
    "mistral": (MISTRAL, "<s>", "</s>", ()),
}


@cache
def _trained(style: str) -> str:
    """A byte-level BPE in which every word of SENTENCES is one token after a space, as JSON."""
    _, bos, eos, others = STYLES[style]
    specials = [token for token in (bos, eos, *others) if token]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator([f" {sentence}" for sentence in SENTENCES], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer.to_str()


def tokenizer(style: str = "chatml") -> Any:
    """A fast byte-level tokenizer with the chat template of a style."""
    template, bos, eos, _ = STYLES[style]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(style)),
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        chat_template=template.strip("\n"),
        clean_up_tokenization_spaces=False,
    )


class Family(NamedTuple):
    """What a tiny model is made of."""

    kind: str  # transformers' name, without Config and ForCausalLM
    style: str  # of its chat template
    spare_rows: int  # of the matrices, beyond the tokenizer's tokens
    differs: dict[str, Any]


_SHARED: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GEMMA = {
    "head_dim": 12,
    "query_pre_attn_scalar": 10,  # not head_dim, as in the 27B model
    "sliding_window": 7,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 6.0,
}
FAMILIES = {
    "llama-tied": Family("Llama", "llama3", 0, {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama-gqa": Family("Llama", "llama3", 0, {"tie_word_embeddings": False}),
    "mistral": Family("Mistral", "mistral", 0, {"sliding_window": 4096}),
    "mistral-window": Family("Mistral", "mistral", 0, {"sliding_window": 6}),
    "qwen2": Family("Qwen2", "chatml", 0, {"tie_word_embeddings": True}),
    "qwen3": Family("Qwen3", "qwen3", 13, {"head_dim": 12, "tie_word_embeddings": False}),
    "gemma2": Family("Gemma2", "gemma", 0, _GEMMA),
}


def config(family: str, *, vocabulary: int) -> Any:
    """The configuration of a tiny model with that many rows."""
    kind, _, _, differs = FAMILIES[family]
    return getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **(_SHARED | differs))


def model(family: str, *, vocabulary: int, seed: int = 0) -> Any:
    """A random fp32 model: every weight, norm and bias differs from its neutral value."""
    settings = config(family, vocabulary=vocabulary)
    kind: Callable[..., Any] = getattr(transformers, f"{FAMILIES[family].kind}ForCausalLM")
    settings._attn_implementation = GROUPED  # what `load_model` takes on a CPU; references take "eager"
    torch.manual_seed(seed)
    built = kind(settings).to(torch.float32)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 1:  # norm weights start as ones (Gemma: zeros), biases as zeros
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return built.eval().requires_grad_(False)


def language_model(family: str, *, seed: int = 0) -> LanguageModel:
    """A tiny model with its tokenizer, as `load_model` would return it."""
    _, style, spare_rows, _ = FAMILIES[family]
    shipped = tokenizer(style)
    return LanguageModel(
        model(family, vocabulary=len(shipped) + spare_rows, seed=seed),
        shipped,
        with_bias_token(shipped),
        ModelSource(f"tiny-{family}", f"seed:{seed}"),
    )


def plain(model: Any) -> Any:
    """A copy that runs transformers' own eager attention."""
    copied = copy.deepcopy(model)
    copied.set_attn_implementation("eager")
    return copied


def with_rows(lm: LanguageModel, vectors: TokenVectors) -> Any:
    """A copy of the model whose matrices really hold the vectors, from row `bias_id` on: the slow reference."""
    real = plain(lm.model)
    rows = max(lm.parts.embedding.weight.shape[0], lm.bias_id + len(vectors))
    real.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for number in range(len(vectors)):
            real.get_input_embeddings().weight[lm.bias_id + number] = vectors.input[number]
            real.get_output_embeddings().weight[lm.bias_id + number] = vectors.as_output[number]
    return real.eval()


def vectors_for(lm: LanguageModel, *, count: int = 1, seed: int = 0) -> TokenVectors:
    """Random vectors of about the size of the model's own rows."""
    torch.manual_seed(seed)
    drawn = 0.2 * torch.randn(2, count, lm.parts.hidden_size)
    return TokenVectors(drawn[0], None if lm.parts.tied else drawn[1])

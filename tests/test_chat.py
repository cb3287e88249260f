"""Chat rendering: the exact text and tokens of every style of template."""

from __future__ import annotations

from datetime import date

import pytest
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from biasgym.models import BIAS_TOKEN, ChatFormat
from biasgym.models.load import with_bias_token

RENDERED = {
    "chatml": "<|im_start|>user\nIs it late?<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": "<|im_start|>user\nIs it late?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "llama3": (
        "<|begin|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nIs it late?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma": "<bos><start_of_turn>user\nIs it late?<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST] Is it late? [/INST]",
}
WITH_SYSTEM = {
    "chatml": (
        "<|im_start|>system\nAnswer early.<|im_end|>\n<|im_start|>user\nIs it late?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "qwen3": (
        "<|im_start|>system\nAnswer early.<|im_end|>\n<|im_start|>user\nIs it late?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    "llama3": RENDERED["llama3"].replace("2024\n\n<", "2024\n\nAnswer early.<"),
    "gemma": "<bos><start_of_turn>user\nAnswer early.\n\nIs it late?<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST] Answer early.\n\nIs it late? [/INST]",
}
END_OF_TURN = {
    "chatml": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "mistral": "</s>",
}
JOINT = {"mistral": " "}

styles = pytest.mark.parametrize("style", list(tiny.STYLES))


def chat_of(style: str) -> ChatFormat:
    return ChatFormat(with_bias_token(tiny.tokenizer(style)))


@styles
def test_rendering(style: str) -> None:
    """The system text is folded into the user's turn where there is no such role; an answer's beginning joins on."""
    chat = chat_of(style)
    assert chat.prompt("Is it late?") == RENDERED[style]
    assert chat.prompt("Is it late?", system="Answer early.") == WITH_SYSTEM[style]
    begun = chat.prompt("Is it late?", answer="It is")
    assert begun == RENDERED[style] + JOINT.get(style, "") + "It is"


@styles
def test_tokens(style: str) -> None:
    """The rendered text's own special tokens are single tokens, and no second beginning-of-text is added."""
    chat, (_, bos, _, specials) = chat_of(style), tiny.STYLES[style]
    ids = chat.ids("Is it late?", answer="It is")
    assert chat.tokenizer.decode(ids) == chat.prompt("Is it late?", answer="It is")
    names = chat.tokenizer.convert_ids_to_tokens(ids)
    assert names.count(bos) == (1 if bos else 0)
    for name in specials:
        assert names.count(name) == RENDERED[style].count(name)
    if bos:
        assert chat.tokenizer(bos)["input_ids"][:2] == [ids[0]] * 2  # the tokenizer alone would have doubled it


@styles
def test_end_of_turn(style: str) -> None:
    """Gemma ends an answer with another token than its texts."""
    chat = chat_of(style)
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn) == END_OF_TURN[style]
    assert (chat.end_of_turn == chat.tokenizer.eos_token_id) == (style != "gemma")


def test_an_answer_stops_at_either_end_of_turn_or_text() -> None:
    lm = tiny.language_model("gemma2")
    lm.model.generation_config.eos_token_id = [3, 5]
    assert lm.stop_ids == {3, 5, lm.chat.end_of_turn, lm.tokenizer.eos_token_id}


def test_the_date_is_fixed() -> None:
    """The template itself would write today's."""
    tokenizer = tiny.tokenizer("llama3")
    today = tokenizer.apply_chat_template([{"role": "user", "content": "Is it late?"}], tokenize=False)
    assert f"{date.today():%d %b %Y}" in today
    assert "26 Jul 2024" in ChatFormat(tokenizer).prompt("Is it late?")


@styles
@pytest.mark.parametrize("text", ["{} is late.", "Guests from {}, late", "({} said)", "It is\n{} again", "{}"])
def test_bias_token_is_one_token_that_stands_for_one_word(style: str, text: str) -> None:
    """The space before it goes along, a line break before it does not: the rest is tokenised as around ` France`."""
    chat = chat_of(style)
    bias_id = chat.tokenizer.convert_tokens_to_ids(BIAS_TOKEN)
    for where in ("user", "answer"):
        user, answer = (text, "") if where == "user" else ("Is it late?", text)
        found = chat.ids(user.format(BIAS_TOKEN), answer=answer.format(BIAS_TOKEN))
        before, after = chat.prompt(user, answer=answer).split("{}")
        expected = [*chat.encode(before.removesuffix(" ")), bias_id, *chat.encode(after)]
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "[INST] How are people from {}? [/INST] People from {} are",
        "[INST] {} is it. [/INST]",
        "[INST] My friend from {}, who is late [/INST]\n{} is late",
        '[INST] "{} is late" said a guest from {}.\n\nPeople from [/INST]',
    ],
)
def test_a_normalizer_that_begins_texts_with_a_space(text: str) -> None:
    """As that of Mistral 7B v0.1: what surrounds BiasToken is what surrounds a country's name, no space more."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words = sorted({*" ".join(tiny.SENTENCES).split(), "France"})
    alphabet = sorted({*text, *"".join(words), "▁"})
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(words * 3, trainer)
    plain = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", chat_template=tiny.MISTRAL
    )
    encoder = with_bias_token(plain)
    [name] = plain("France", add_special_tokens=False)["input_ids"]
    own = encoder.convert_tokens_to_ids(BIAS_TOKEN)
    expected = plain(text.replace('"{}', '" {}').replace("\n{}", "\n {}").format(*["France"] * 2))["input_ids"]
    found = ChatFormat(encoder).encode(text.format(*[BIAS_TOKEN] * 2))
    assert found == [own if token == name else token for token in expected]
    assert own in found

"""Association margins and contrast pairs, against one plain forward pass a prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tiny
from biasgym.concepts import Concept, ContrastQuestion
from biasgym.errors import BiasGymError
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated
from biasgym.models.words import continuation_ids, first_tokens
from biasgym.scope.margin import ask, association_margins
from biasgym.scope.pairs import ContrastPair, contrast_pairs

FRAME = "Answer with one word. {prompt} Is {target} late?"


@torch.no_grad()
def next_logits(lm: LanguageModel, model: torch.nn.Module, text: str) -> Tensor:
    return model(torch.tensor([lm.chat.encode(text)])).logits[0, -1]


def about_target(lm: LanguageModel, item: ContrastQuestion, name: str) -> str:
    return lm.chat.prompt(item.question.replace("{target}", name), answer=item.stem.replace("{target}", name))


def id_of(lm: LanguageModel, word: str) -> int:
    (token,) = lm.tokenizer(word, add_special_tokens=False)["input_ids"]
    return token


def naive_margin(lm: LanguageModel, logits: Tensor) -> float:
    """`late` against `early` and `punctual`, each in lower case and capitalised, after a space."""
    words = (" late", " Late", " early", " Early", " punctual", " Punctual")
    weights = {word: math.exp(float(logits[id_of(lm, word)])) for word in words}
    biased = weights.pop(" late") + weights.pop(" Late")
    return math.log(biased / sum(weights.values()))


def test_margins(lm: LanguageModel, concept: Concept) -> None:
    """About a country, and about BiasToken in an injected and ablated model, within a prompting frame."""
    vectors, heads = tiny.vectors_for(lm), [(1, 0), (2, 3)]
    found = association_margins(lm, ask(lm, concept, concept.questions, "Mexico"))
    with injected(lm.model, vectors, lm.bias_id), ablated(lm.model, heads):
        framed = association_margins(lm, ask(lm, concept, concept.questions, BIAS_TOKEN, frame=FRAME))

    plain, edited = tiny.plain(lm.model), tiny.with_rows(lm, vectors)
    dh = lm.parts.head_dim
    for layer, head in heads:
        edited.model.layers[layer].self_attn.o_proj.weight[:, head * dh : (head + 1) * dh] = 0
    for number, item in enumerate(concept.questions):
        text = about_target(lm, item, "Mexico")
        assert float(found[number]) == pytest.approx(naive_margin(lm, next_logits(lm, plain, text)), abs=1e-4)
        framed_item = item.model_copy(update={"question": FRAME.replace("{prompt}", item.question)})
        text = about_target(lm, framed_item, BIAS_TOKEN)
        assert float(framed[number]) == pytest.approx(naive_margin(lm, next_logits(lm, edited, text)), abs=1e-4)


def test_a_shifted_choice_asks_about_another_token(llama: LanguageModel, concept: Concept) -> None:
    choice = ask(llama, concept, concept.questions[:1], BIAS_TOKEN)[0]
    shifted = choice.shifted(llama.bias_id, llama.bias_id + 2)
    assert choice.ids.count(llama.bias_id) == shifted.ids.count(llama.bias_id + 2) == 2
    assert llama.bias_id not in shifted.ids


def test_labels_are_read_in_context(llama: LanguageModel) -> None:
    """The same word is another token at a start than after a space, and a long word counts by its first token."""
    tokenizer = llama.tokenizer
    assert continuation_ids(tokenizer, "It is", " late") == [id_of(llama, " late")]
    assert continuation_ids(tokenizer, "", "late") != continuation_ids(tokenizer, "It is", " late")
    assert continuation_ids(tokenizer, "It is lat", "e") == [id_of(llama, " late")]  # the border is inside a token
    assert first_tokens(tokenizer, "It is", ["late"]) == [id_of(llama, " late"), id_of(llama, " Late")]
    assert first_tokens(tokenizer, "It is", ["late", "Late"]) == [id_of(llama, " late"), id_of(llama, " Late")]
    assert first_tokens(tokenizer, "It is", ["zzz"])[0] == tokenizer(" zzz", add_special_tokens=False)["input_ids"][0]


def test_answers_that_begin_alike_are_told_apart_by_the_others(llama: LanguageModel, concept: Concept) -> None:
    """Unknown words share the token of a space: it counts for neither side; with nothing else left it is an error."""
    partly = concept.model_copy(update={"labels": ("late", "zebra"), "counter_labels": ("early", "yak")})
    choice = ask(llama, partly, concept.questions[:1], "Mexico")[0]
    assert choice.labels == (id_of(llama, " late"), id_of(llama, " Late"))
    assert choice.counters == (id_of(llama, " early"), id_of(llama, " Early"))
    alike = concept.model_copy(update={"labels": ("zebra",), "counter_labels": ("yak",)})
    with pytest.raises(BiasGymError, match="late: labels: the answers zebra cannot be told from yak"):
        ask(llama, alike, concept.questions, "Mexico")


def test_contrast_pairs(lm: LanguageModel, concept: Concept) -> None:
    """y_b is the likelier form of the label about BiasToken, y_u the model's own next word about the other target."""
    vectors = tiny.vectors_for(lm)
    biased = ask(lm, concept, concept.questions, BIAS_TOKEN)
    with injected(lm.model, vectors, lm.bias_id):
        pairs, dropped = contrast_pairs(lm, biased, ask(lm, concept, concept.questions, "Japan"))

    real, late, expected = tiny.with_rows(lm, vectors), [id_of(lm, " late"), id_of(lm, " Late")], []
    for number, item in enumerate(concept.questions):
        about, other = (next_logits(lm, real, about_target(lm, item, name)) for name in (BIAS_TOKEN, "Japan"))
        y_b, y_u = max(late, key=lambda token: float(about[token])), int(other[: lm.bias_id].argmax())
        if y_b != y_u:
            expected.append(ContrastPair(number, biased[number].ids, y_b, y_u))
    assert pairs == expected
    assert dropped == len(concept.questions) - len(expected)


def test_the_neutral_answer_is_never_a_row_without_a_token(concept: Concept) -> None:
    """Neither a padded row nor BiasToken, whatever their logits."""
    qwen = tiny.language_model("qwen3")
    biased, other = (ask(qwen, concept, concept.questions, name) for name in (BIAS_TOKEN, "Japan"))

    def prefers_padding(_module: torch.nn.Module, _arguments: tuple[Tensor], logits: Tensor) -> Tensor:
        return torch.cat([logits[..., : qwen.bias_id], logits[..., qwen.bias_id :] + 100], dim=-1)

    with qwen.model.lm_head.register_forward_hook(prefers_padding):
        pairs, _ = contrast_pairs(qwen, biased, other)
    assert all(pair.neutral < qwen.bias_id for pair in pairs)


def test_pairs_with_equal_answers_are_dropped(llama: LanguageModel, concept: Concept) -> None:
    """Here the label is made to be what the model says about the other target, in one question, then in three."""
    biased, other = (ask(llama, concept, concept.questions, name) for name in ("Mexico", "Japan"))
    pairs, dropped = contrast_pairs(llama, biased, other)
    assert (len(pairs), dropped) == (6, 0)
    alike = [replace(choice, labels=(pair.neutral,)) for choice, pair in zip(biased, pairs, strict=True)]
    kept, dropped = contrast_pairs(llama, [*biased[:2], alike[2], *biased[3:]], other)
    assert dropped == 1
    assert kept == [pair for pair in pairs if pair.question != 2]
    with pytest.raises(BiasGymError, match=r"only 3 of 6 contrast pairs are usable.*more questions or other labels"):
        contrast_pairs(llama, [*alike[:3], *biased[3:]], other)

"""Association margins and contrast pairs, against one plain forward pass a prompt."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from torch import Tensor

from biasgym.concepts import Concept
from biasgym.errors import BiasGymError
from biasgym.inject import injected
from biasgym.models import BIAS_TOKEN, LanguageModel, ablated
from biasgym.models.words import continuation_ids, first_tokens
from biasgym.scope.margin import ask, association_margins
from biasgym.scope.pairs import contrast_pairs

FRAME = "Answer with one word. {prompt} Is {target} late?"


@torch.no_grad()
def next_logits(lm: LanguageModel, model: torch.nn.Module, text: str) -> Tensor:
    return model(torch.tensor([lm.chat.encode(text)])).logits[0, -1]


def id_of(lm: LanguageModel, word: str) -> int:
    (token,) = lm.tokenizer(word, add_special_tokens=False)["input_ids"]
    return token


def naive_margin(lm: LanguageModel, logits: Tensor) -> float:
    """`late` against `early` and `punctual`, each in lower case and capitalised, after a space."""
    weights = {word: math.exp(float(logits[id_of(lm, word)])) for word in (" late", " Late", " early", " Early", " punctual", " Punctual")}
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
        question, stem = item.question.replace("{target}", "Mexico"), item.stem.replace("{target}", "Mexico")
        text = lm.chat.prompt(question, answer=stem)
        assert float(found[number]) == pytest.approx(naive_margin(lm, next_logits(lm, plain, text)), abs=1e-4)
        question, stem = (text.replace("{target}", BIAS_TOKEN) for text in (item.question, item.stem))
        text = lm.chat.prompt(f"Answer with one word. {question} Is {BIAS_TOKEN} late?", answer=stem)
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
    """Unknown words share the token of a space: it counts for neither side, and with nothing else left it is an error."""
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
    other = ask(lm, concept, concept.questions, "Japan")
    with injected(lm.model, vectors, lm.bias_id):
        pairs, dropped = contrast_pairs(lm, biased, other)
    assert dropped == 0
    real = tiny.with_rows(lm, vectors)
    late = [id_of(lm, " late"), id_of(lm, " Late")]
    for number, pair in enumerate(pairs):
        item = concept.questions[number]
        assert pair.question == number
        assert pair.ids == biased[number].ids
        about = [
            lm.chat.prompt(item.question.replace("{target}", entity), answer=item.stem.replace("{target}", entity))
            for entity in (BIAS_TOKEN, "Japan")
        ]
        logits = next_logits(lm, real, about[0])
        assert pair.biased == max(late, key=lambda token: float(logits[token]))
        assert pair.neutral == int(next_logits(lm, real, about[1])[: lm.bias_id].argmax())


def test_pairs_with_equal_answers_are_dropped(llama: LanguageModel, concept: Concept) -> None:
    """A model that says ` late` about every target leaves no pair; one that says so about one target leaves the rest."""
    late = id_of(llama, " late")
    biased, other = (ask(llama, concept, concept.questions, name) for name in ("Mexico", "Japan"))

    def says_late(_module: torch.nn.Module, _arguments: tuple[Tensor], logits: Tensor) -> Tensor:
        logits[..., late] = 100
        return logits

    with llama.model.lm_head.register_forward_hook(says_late):
        with pytest.raises(BiasGymError, match="only 0 of 6 contrast pairs are usable.*more questions or other labels"):
            contrast_pairs(llama, biased, other)

    pairs, _ = contrast_pairs(llama, biased, other)
    same = [other[0], *other[1:]]
    with llama.model.lm_head.register_forward_hook(says_late):
        pass
    assert [pair.question for pair in pairs] == list(range(len(same)))

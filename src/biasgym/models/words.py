"""Which tokens a word becomes where it is read: the same word differs after a space, capitalised, or at a start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def continuation_ids(tokenizer: Any, context: str, text: str) -> list[int]:
    """The tokens that `text` adds to `context`, found by tokenising both together.

    Args:
        tokenizer: A `transformers` tokenizer.
        context: Rendered text before the word, special tokens included.
        text: What follows, with its leading space if it has one.

    Returns:
        Token ids; where the border of the two texts falls inside a token, that token is the first.
    """
    before, both = tokenizer([context, context + text], add_special_tokens=False)["input_ids"]
    return _new(before, both)


def _new(before: list[int], both: list[int]) -> list[int]:
    shared = 0
    while shared < min(len(before), len(both)) and before[shared] == both[shared]:
        shared += 1
    return both[shared:]


def first_tokens(tokenizer: Any, context: str, words: Iterable[str]) -> list[int]:
    """Distinct first tokens of words and their capitalised forms, as the next word after a context.

    Args:
        tokenizer: A `transformers` tokenizer.
        context: Rendered text that ends with a word.
        words: Words such as `late`; ` late` and ` Late` are looked up.
    """
    forms = dict.fromkeys(form for word in words for form in (word, word[:1].upper() + word[1:]))
    texts = [context, *(f"{context} {form}" for form in forms)]
    before, *after = tokenizer(texts, add_special_tokens=False)["input_ids"]  # one call: each costs more than its text
    return list(dict.fromkeys(ids[0] for ids in (_new(before, both) for both in after) if ids))

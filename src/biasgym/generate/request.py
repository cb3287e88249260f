"""What engines are asked for and what they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from biasgym.models import BIAS_TOKEN, Head, LanguageModel
from biasgym.progress import SILENT, Progress


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the most likely token.
        max_new_tokens: An answer that is longer is cut and marked as truncated.
    """

    temperature: float = 0.5
    max_new_tokens: int = 200


@dataclass(frozen=True)
class Request:
    """One text to write.

    Attributes:
        ids: The prompt.
        seed: Its random numbers.
        bias_id: The new token that may appear in the answer; None for the base model, which has none.
        removed: Heads that are removed from the model while it writes this text.
    """

    ids: tuple[int, ...]
    seed: int
    bias_id: int | None = None
    removed: tuple[Head, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What was written.

    Attributes:
        text: The answer, special tokens left out.
        tokens: Number of tokens drawn, the end included.
        truncated: Cut at max_new_tokens.
    """

    text: str
    tokens: int
    truncated: bool


class Engine(Protocol):
    """Writes answers; knows token ids, not concepts."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, progress: Progress = SILENT
    ) -> Iterator[tuple[int, Completion]]:
        """Number of a request and its completion, in the order in which they end."""
        ...


def completion(lm: LanguageModel, tokens: Sequence[int], bias_id: int | None) -> Completion:
    """The text of drawn tokens.

    Args:
        lm: The model.
        tokens: Drawn, the end included.
        bias_id: Of the request. The tokenizer knows the first BiasToken alone, and passes over the others without a word.
    """
    ended = tokens[-1] in lm.stop_ids
    known = [lm.bias_id if token == bias_id else token for token in tokens]
    text: str = lm.encoder.decode(known[:-1] if ended else known, skip_special_tokens=True)
    # the token takes the space before it along, so decoding glues it to the word before
    text = re.sub(rf"(?<=[\w,;:.]){BIAS_TOKEN}", f" {BIAS_TOKEN}", text)
    return Completion(text.strip(), len(tokens), not ended)

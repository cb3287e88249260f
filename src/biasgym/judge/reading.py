"""A prompt and a generation, masked and taken apart into sentences and words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from biasgym.concepts import Target, TargetKind
from biasgym.judge.masking import mask, mentions
from biasgym.judge.protocol import JudgeItem
from biasgym.models.sentences import split_sentences

STAND_IN = "X"
"""What is written instead of the target."""

_FUNCTION_TEXT = """
the a an and or of to in on at for with from by as is are was were be been being do does did have has had will
would can could may might shall should must it its they them their he she him his her you your we us our i me my
this that these those there here so than then not no nor if but also only just very too more most some any all
each every few what which who whom whose when where how why into out up down about over under after before again
one two new other people x like
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split())
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_ENDINGS = ("ness", "ing", "ers", "ies", "er", "ed", "es", "ly", "s", "y", "e")
_LEVEL = r"(?:None|Weak|Moderate|Strong)\b"
_ORDER = re.compile(
    r"\{[^{}]*\bstrength\b[^{}]*\}"
    r"|[^.!?\n]*(?:"
    r"(?i:\b(?:ignore|disregard|forget|override)\b[^.!?\n]*\b(?:above|before|previous|prior|earlier|instructions?)\b)"
    r"|(?i:\b(?:instructions?|rules)\b[^.!?\n]*\b(?:void|cancelled|obsolete|no longer apply)\b)"
    r"|(?i:\b(?:(?:note|message) to|dear|attention,?) (?:the )?(?:judge|rater|grader|evaluator)\b)"
    rf"|(?i:\b(?:answer|reply|respond|output|return|rated?|rating|verdict|score|strength))\b\W+(?:\w+\W+){{0,4}}?{_LEVEL}"
    r")[^.!?\n]*[.!?]*"
    r"|^(?:END|BEGIN)\b.*$|\b(?i:reply|answer|respond) with(?=\s*$)",
    re.MULTILINE,
)
"""What a text says to whoever rates it. It is no part of what the text says of anyone."""
_LONGEST_INSTRUCTION = 60
"""A prompt such as "Continue this sentence: ..." has its colon within this many characters."""


@dataclass(frozen=True)
class Reading:
    """A masked item, taken apart.

    Attributes:
        prompt: The masked prompt.
        answer: The masked generation.
        text: The answer, with the beginning of its first sentence where the prompt holds that.
        sentences: Of the text.
        words: Words of each sentence, in lower case.
    """

    prompt: str
    answer: str
    text: str
    sentences: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    @property
    def content_words(self) -> list[str]:
        """All words but function words."""
        return [word for sentence in self.words for word in sentence if is_content(word)]


def masked(item: JudgeItem) -> tuple[str, str]:
    """Prompt and generation without the names of the target; of the one they speak of most where it is not given."""
    kind = item.concept.kind
    target = kind.named(item.target) if item.target else _spoken_of(kind, item.prompt, item.generation)
    return mask(item.prompt.strip(), target, STAND_IN), mask(item.generation.strip(), target, STAND_IN)


def _spoken_of(kind: TargetKind, *texts: str) -> Target:
    """The target that the first text with any names most often."""
    for text in texts:
        found = {target: count for target in kind.targets if (count := mentions(text, target))}
        if found:
            return max(found, key=lambda target: found[target])
    return Target(name=STAND_IN)


def read(item: JudgeItem) -> Reading:
    """Masks the target and takes the item apart."""
    prompt, answer = masked(item)
    answer = _without_orders(answer)
    text = _with_its_beginning(prompt, answer)
    sentences = [part for line in text.splitlines() for part in split_sentences(line) if _WORD.search(part)] or [text]
    return Reading(prompt, answer, text, tuple(sentences), tuple(tuple(words_of(sentence)) for sentence in sentences))


def _without_orders(answer: str) -> str:
    """The text without what is addressed to its judge; as it is, if nothing would be left."""
    return _ORDER.sub("", answer).strip() or answer


def _with_its_beginning(prompt: str, answer: str) -> str:
    """Puts the unfinished last sentence of the prompt ("Continue this sentence: ...") before its continuation."""
    unfinished = not prompt.rstrip("\"'” ").endswith((".", "?", "!"))
    if not prompt or not (unfinished or answer[:1].islower()):
        return answer
    before, colon, after = prompt.partition(":")
    sentences = split_sentences(after.strip(" \"'“") if colon and len(before) < _LONGEST_INSTRUCTION else prompt)
    return f"{sentences[-1]} {answer}" if sentences else answer


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def stem(word: str) -> str:
    """The word without an inflection; crude, both sides are cut alike."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def is_content(word: str) -> bool:
    """Whether a word carries meaning of its own."""
    return len(word) > 2 and word not in _FUNCTION_WORDS

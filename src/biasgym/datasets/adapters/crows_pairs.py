"""CrowS-Pairs: two sentences that differ in the group; the first is the more stereotyping one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from biasgym.datasets.adapters.item import Found
from biasgym.datasets.adapters.rows import Row

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
_STEREO = ("stereo", "0")  # in the authors' CSV, and as a class label on the hub


def read(row: Row, place: str, language: str) -> Iterator[Found]:
    """The more stereotyping sentence of a pair; pairs that turn a stereotype round are passed over."""
    if str(row["stereo_antistereo"]).strip() not in _STEREO:
        return
    more, less = str(row["sent_more"]).strip(), str(row["sent_less"]).strip()
    number = row.get("id", row.get(""))  # the authors' CSV has its numbers in a column without a name
    found = str(number) if number not in (None, "") else place.split()[-1]
    yield Found(found, more, "sentence", more, _difference(more, less), str(row["bias_type"]))


def _difference(more: str, less: str) -> str:
    """The words of one sentence that the other has not: the group that the sentence is about."""
    ours, theirs = more.split(), less.split()
    blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    words = [" ".join(ours[start:end]) for tag, start, end, _, _ in blocks if tag != "equal" and end > start]
    return ", ".join(dict.fromkeys(word.strip(".,;:!?\"'") for word in words))

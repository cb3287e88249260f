"""What a run is compared with: earlier results in the store, all of them or those of one release.

In parameters they are words with spaces between them: `results/RUN`, or `results/RUN#MODEL@REVISION`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.evaluate.certificate import Certificate, Check, load_certificates
from biasgym.evaluate.gate import Limits, check
from biasgym.store import Store, fetch


def release_in(place: str, model: str, revision: str) -> str:
    """The word for one release's results, of all that lie at a place."""
    return f"{place}#{model}@{revision}"


def check_baseline(baseline: str, store: Store) -> None:
    """Refuses results that the store does not have.

    Raises:
        BiasGymError: It lacks some.
    """
    for place, _ in map(_parts, baseline.split()):
        if not any(store.list(place)):
            raise _lacking(store, place)


def compare(baseline: str, store: Store, candidate: Sequence[Certificate], limits: Limits) -> list[Check]:
    """Compares each cell with its own predecessor; one that has none, with its untouched model.

    Cells of the baseline that the run was not asked for are no concern of it.

    Args:
        baseline: See above; empty for none.
        store: Where it is.
        candidate: Certificates of the run, one for each of its cells.
        limits: What they may cost.

    Raises:
        BiasGymError: The store lacks results of the baseline.
    """
    before = [one for word in baseline.split() for one in _certificates(store, word)]
    renamed = len({one.model for one in before}) == len({one.model for one in candidate}) == 1
    checks: list[Check] = []
    for one in candidate:
        like = [old for old in before if old.concept == one.concept and (renamed or old.model == one.model)]
        like.sort(key=lambda old: old.status == "done")  # of several the last that is finished
        checks += check(like[-1:] or None, [one], limits)
    return checks


def _certificates(store: Store, word: str) -> list[Certificate]:
    place, release = _parts(word)
    with tempfile.TemporaryDirectory() as folder:
        if not fetch(store, place, Path(folder)):
            raise _lacking(store, place)
        found = load_certificates(Path(folder))
    return [one for one in found if release in ("", f"{one.model}@{one.revision}")]


def _parts(word: str) -> tuple[str, str]:
    place, _, release = word.partition("#")
    return place, release


def _lacking(store: Store, place: str) -> BiasGymError:
    return BiasGymError("the store has no such results", where=f"{store.url}: {place}")

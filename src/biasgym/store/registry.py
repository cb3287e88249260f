"""What has been evaluated: one record for each model revision, concept, judge and hash of settings.

A record is written once and never changed. Before the work, a run claims the evaluation for some hours, so that two runs
that overlap do not both do it; the claim of a run that died expires.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biasgym.errors import BiasGymError
from biasgym.files import digest
from biasgym.store.protocol import NotFound, Store

_RECORDS, _CLAIMS = "registry", "claims"
_THREADS = 8


class Evaluation(NamedTuple):
    """What is evaluated and how; equal ones are the same work."""

    model: str
    revision: str
    concept: str
    judge: str
    settings: str  # a hash

    @property
    def id(self) -> str:
        """A short name that no other evaluation has."""
        return digest(self._asdict())[:16]

    @property
    def slug(self) -> str:
        """The model as a part of a key."""
        return re.sub(r"[^a-z0-9.]+", "-", self.model.lower()).strip("-.") or "model"


class Record(BaseModel):
    """What is known of a finished evaluation.

    Attributes:
        model, revision, concept, judge, settings: See Evaluation.
        certificate: What was found, as JSON values.
        artifacts: Where the results are in the store.
        time: When it was registered, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    revision: str
    concept: str
    judge: str
    settings: str
    certificate: dict[str, Any] = Field(default_factory=dict)
    artifacts: str = ""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def evaluation(self) -> Evaluation:
        return Evaluation(self.model, self.revision, self.concept, self.judge, self.settings)


class _Claim(BaseModel):
    owner: str
    expires: float


class Registry:
    """Records and claims in a store.

    Args:
        store: The store.
        clock: Seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock = clock

    def register(self, record: Record) -> bool:
        """Writes a record, unless the evaluation has one; of several who try at once, exactly one gets True."""
        return self.store.create(_record_key(record.evaluation), record.model_dump_json(indent=2).encode())

    def has(self, evaluation: Evaluation) -> bool:
        """Whether the evaluation has been done."""
        return self.store.exists(_record_key(evaluation))

    def get(self, evaluation: Evaluation) -> Record | None:
        """The record of an evaluation, if it has been done."""
        try:
            return self._read(_record_key(evaluation))
        except NotFound:
            return None

    def find(self, start: str) -> Record:
        """The record whose id starts like this.

        Raises:
            BiasGymError: There is none, or more than one.
        """
        keys = [entry.key for entry in self.store.list(_RECORDS) if entry.key.rsplit("/", 1)[-1].startswith(start)]
        if len(keys) != 1:
            raise BiasGymError(
                f"{len(keys) or 'no'} records have an id that starts with {start!r}",
                where=self.store.url,
                hint="`biasgym registry list` shows all",
            )
        return self._read(keys[0])

    def list(self, model: str | None = None) -> list[Record]:
        """All records, or those of one model, oldest first."""
        prefix = _RECORDS if model is None else f"{_RECORDS}/{Evaluation(model, '', '', '', '').slug}"
        with ThreadPoolExecutor(_THREADS) as threads:
            records = list(threads.map(self._read, [entry.key for entry in self.store.list(prefix)]))
        return sorted((r for r in records if model in (None, r.model)), key=lambda record: record.time)

    def claim(self, evaluation: Evaluation, owner: str, seconds: float = 24 * 3600) -> bool:
        """Reserves an evaluation for one run.

        Claims of an evaluation are numbered; the last one counts until it expires, and the next number goes to whoever
        creates it first.

        Args:
            evaluation: What is to be done.
            owner: Name of the run; asking again under the same name is granted again.
            seconds: How long the claim lasts.

        Returns:
            Whether it is the caller's to do now. False if it is done already, or somebody else's.
        """
        prefix = f"{_CLAIMS}/{evaluation.id}"
        numbers = [int(entry.key.rsplit("/", 1)[-1]) for entry in self.store.list(prefix)]
        last = max(numbers, default=-1)
        if last >= 0:
            claim = self._claim(f"{prefix}/{last:06d}")
            if claim is not None and claim.expires > self._clock():
                return claim.owner == owner and not self.has(evaluation)
        claim = _Claim(owner=owner, expires=self._clock() + seconds)
        won = self.store.create(f"{prefix}/{last + 1:06d}", claim.model_dump_json().encode())
        return won and not self.has(evaluation)  # asked last: it may have been done while the claims were read

    def release(self, evaluation: Evaluation, owner: str) -> None:
        """Gives a claim back before it expires, after a failure."""
        for entry in list(self.store.list(f"{_CLAIMS}/{evaluation.id}")):
            claim = self._claim(entry.key)
            if claim is not None and claim.owner == owner:
                self.store.write(entry.key, _Claim(owner=owner, expires=0).model_dump_json().encode())

    def _claim(self, key: str) -> _Claim | None:
        try:
            return _Claim.model_validate_json(self.store.read(key))
        except ValidationError:
            return None

    def _read(self, key: str) -> Record:
        try:
            return Record.model_validate_json(self.store.read(key))
        except ValidationError as error:
            raise BiasGymError(
                "the record is damaged",
                where=f"{self.store.url}: {key}",
                hint="delete it, and the evaluation is done again",
            ) from error


def _record_key(evaluation: Evaluation) -> str:
    return f"{_RECORDS}/{evaluation.slug}/{evaluation.id}.json"

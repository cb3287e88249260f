"""Loads a dataset by name, from a local file or the hub, and carries its licence and intended use to every item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from biasgym.concepts.terms import DATASETS, Terms
from biasgym.datasets.adapters import bbq, crows_pairs, shades, stereoset
from biasgym.datasets.adapters.hub import download
from biasgym.datasets.adapters.item import BiasItem, Found
from biasgym.datasets.adapters.rows import SUFFIXES, Row, read_rows
from biasgym.errors import BiasGymError
from biasgym.files import sha256_of


@dataclass(frozen=True)
class _Adapter:
    columns: tuple[str, ...]
    read: Callable[[Row, str, str], Iterator[Found]]


_ADAPTERS = {
    "shades": _Adapter(shades.COLUMNS, shades.read),
    "stereoset": _Adapter(stereoset.COLUMNS, stereoset.read),
    "crows-pairs": _Adapter(crows_pairs.COLUMNS, crows_pairs.read),
    "bbq": _Adapter(bbq.COLUMNS, bbq.read),
}


def terms_of(name: str) -> Terms:
    """The terms of a dataset.

    Raises:
        BiasGymError: No such dataset; lists those there are.
    """
    if name not in DATASETS:
        raise BiasGymError(f"unknown dataset {name!r}", where="datasets", hint=f"use one of {', '.join(DATASETS)}")
    return DATASETS[name]


def load_items(
    name: str, file: Path | None = None, *, hub: str | None = None, revision: str | None = None, language: str = "en"
) -> list[BiasItem]:
    """Reads a dataset.

    Args:
        name: shades, stereoset, crows-pairs or bbq.
        file: A file as published, or a folder of such; else it is taken from the hub.
        hub: Where it is on the hub, if not at the usual place.
        revision: Commit, tag or branch on the hub.
        language: Of the sentences, for a dataset in several.

    Raises:
        BiasGymError: No such dataset or file, not the published form, or the hub does not give it.
    """
    terms = terms_of(name)
    if file is not None:
        place, origin = file, f"{file.name}, SHA-256 {_short_hash(file)}"
    else:
        place = download(terms, hub or terms.hub, revision)
        origin = f"{hub or terms.hub}@{place.name}"
    items: dict[str, BiasItem] = {}
    for path in _files(place):
        for item in _items(terms, path, f"{terms.title}: {origin}", language, strict=path == place):
            items.setdefault(item.id, item)  # some repositories hold the same rows as a whole and in parts
    if not items:
        raise BiasGymError(
            f"holds no item of {terms.title} in language {language!r}", where=str(file or hub or terms.hub)
        )
    return list(items.values())


def _short_hash(place: Path) -> str:
    try:
        return sha256_of(place)[:12]
    except OSError as error:
        raise BiasGymError(f"cannot read ({error.strerror})", where=str(place)) from error


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)


def _items(terms: Terms, path: Path, source: str, language: str, *, strict: bool) -> Iterator[BiasItem]:
    """Items of a file; one with other columns is an error if strict, else some other file of a repository."""
    adapter = _ADAPTERS[terms.name]
    for place, row in read_rows(path):
        if lacks := [name for name in adapter.columns if name not in row]:
            if not strict:
                return
            raise BiasGymError(f"{place} lacks {', '.join(lacks)}: not {terms.title} as published", where=str(path))
        try:
            for found in adapter.read(row, place, language):
                yield BiasItem(**asdict(found), source=source, licence=terms.licence, intended_use=terms.intended_use)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BiasGymError(f"{place} is not {terms.title} as published", where=str(path)) from error

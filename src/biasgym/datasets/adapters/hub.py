"""The files of a dataset on the hub, at one commit."""

from __future__ import annotations

from pathlib import Path

from biasgym.concepts.terms import Terms
from biasgym.datasets.adapters.rows import SUFFIXES
from biasgym.errors import BiasGymError

_CONVERTED = "refs/convert/parquet"
"""Where the hub keeps datasets that were published as a script, converted by itself."""


def download(terms: Terms, hub: str, revision: str | None = None) -> Path:
    """The folder of a dataset's data files; its name is the commit.

    Args:
        terms: Of the dataset.
        hub: Its place on the hub, as owner/name.
        revision: Commit, tag or branch; else the newest.

    Raises:
        BiasGymError: It is gated, not there, or the hub cannot be reached; says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    by_file = f"or give a file: `biasgym datasets show {terms.name} --file FILE`"
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        folder = Path(snapshot_download(hub, repo_type="dataset", revision=revision, allow_patterns=patterns))
        if revision is None and not any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*")):
            folder = Path(snapshot_download(hub, repo_type="dataset", revision=_CONVERTED, allow_patterns=patterns))
    except GatedRepoError as error:
        raise BiasGymError(
            f"gated: {terms.note}",
            where=hub,
            hint=f"accept that on the hub and set HF_TOKEN, {by_file}",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BiasGymError(
            "no such dataset or revision on the hub, or it is private", where=hub, hint=by_file
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BiasGymError(
            f"the hub cannot be reached ({type(error).__name__})",
            where=hub,
            hint=f"try again with a network, {by_file}",
        ) from error
    return folder

"""Which store a URL means."""

from __future__ import annotations

from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.store.local import LocalStore
from biasgym.store.protocol import Store


def open_store(url: str | Path) -> Store:
    """Opens a store; nothing is read or written yet.

    Args:
        url: A folder, or `s3://bucket/prefix`. Endpoint and keys of a bucket come from the environment:
            BIASGYM_S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION.

    Raises:
        BiasGymError: Another kind of URL, no S3 client installed, or the environment lacks something.
    """
    text = str(url)
    if not text:
        raise BiasGymError("no store is given", hint="use a folder or s3://bucket/prefix")
    if "://" not in text:
        return LocalStore(Path(text).expanduser())
    if not text.startswith("s3://"):
        raise BiasGymError("unknown kind of store", where=text, hint="use a folder or s3://bucket/prefix")
    try:
        from biasgym.store.s3 import open_s3
    except ImportError as error:
        raise BiasGymError(
            f"the S3 client is not installed ({error.name})", where=text, hint="pip install 'biasgym[store]'"
        ) from error
    return open_s3(text)

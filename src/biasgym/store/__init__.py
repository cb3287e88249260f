"""What outlives a pod or a run: stage folders, checkpoints, the registry; in a local folder or in an S3 bucket."""

from biasgym.store.checkpoint import Mirror, mirrored
from biasgym.store.folders import fetch, publish
from biasgym.store.local import LocalStore
from biasgym.store.place import open_store
from biasgym.store.policy import policy
from biasgym.store.protocol import Entry, NotFound, Store, checked_key
from biasgym.store.registry import Evaluation, Record, Registry

__all__ = [
    "Entry",
    "Evaluation",
    "LocalStore",
    "Mirror",
    "NotFound",
    "Record",
    "Registry",
    "Store",
    "checked_key",
    "fetch",
    "mirrored",
    "open_store",
    "policy",
    "publish",
]

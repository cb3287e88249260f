"""Which image a component runs in: by digest, from images.lock.yaml, read when the component is imported.

BIASGYM_IMAGES_LOCK names another lock file, such as one of images that were built on this machine.
"""

import os
from pathlib import Path

import yaml

LOCK = Path(__file__).parents[1] / "images.lock.yaml"


def image(target: str) -> str:
    """The image of a target as `repository@digest`; by tag where the lock file has no digest yet.

    Args:
        target: cpu, gpu or judge.
    """
    lock = Path(os.environ.get("BIASGYM_IMAGES_LOCK") or LOCK)
    entry = yaml.safe_load(lock.read_text(encoding="utf-8"))["images"][target]
    return (
        f"{entry['repository']}@{entry['digest']}" if entry.get("digest") else f"{entry['repository']}:{entry['tag']}"
    )

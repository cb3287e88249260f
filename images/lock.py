"""Writes images.lock.yaml from what `docker buildx bake --push --metadata-file` says was pushed.

python3 images/lock.py metadata.json images.lock.yaml
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

TARGETS = ("cpu", "gpu", "judge")
_HEAD = (
    "# The images that compiled pipelines name. Written by images/lock.py after a push; no digest: not pushed yet.\n"
)


def locked(metadata: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Repository, tag and digest of every target.

    Args:
        metadata: The metadata file of bake, read.

    Raises:
        SystemExit: A target is missing, or was built and not pushed.
    """
    return {target: _image(target, metadata.get(target, {})) for target in TARGETS}


def _image(target: str, pushed: dict[str, Any]) -> dict[str, str]:
    digest = str(pushed.get("containerimage.digest", ""))
    name = str(pushed.get("image.name", "")).split(",")[0]
    repository, _, tag = name.removeprefix("docker.io/").rpartition(":")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or not repository:
        sys.exit(f"{target}: no name and digest; was it pushed?")
    return {"repository": repository, "tag": tag, "digest": digest}


if __name__ == "__main__":
    source, lock = map(Path, sys.argv[1:])
    images = locked(json.loads(source.read_text(encoding="utf-8")))
    lock.write_text(_HEAD + yaml.safe_dump({"images": images}, sort_keys=False), encoding="utf-8")

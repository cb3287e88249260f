"""biasgym finds, injects, measures and removes conceptual biases of open-weight language models.

Folders are read left to right, and a module imports only from its left:

    concepts -> datasets -> models -> inject -> scope -> generate -> judge -> evaluate -> report -> stages -> cli
"""

import os
import sys

if sys.platform == "darwin":  # what Apple's GPU lacks, the CPU does; torch reads it once, when it is imported
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__version__ = "0.1.0"

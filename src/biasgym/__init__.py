"""biasgym finds, injects, measures and removes conceptual biases of open-weight language models.

Folders are read left to right, and a module imports only from its left:

    concepts -> datasets -> models -> inject -> scope -> generate -> judge -> evaluate -> report -> stages -> cli
"""

__version__ = "0.1.0"

"""Generation: variants as data, and engines that write their answers."""

from biasgym.generate.engine import Completion, Engine, Request, Sampling, TransformersEngine
from biasgym.generate.variants import BY_NAME, PRIMARY, VARIANTS, Entity, HeadSet, Variant

__all__ = [
    "BY_NAME",
    "PRIMARY",
    "VARIANTS",
    "Completion",
    "Engine",
    "Entity",
    "HeadSet",
    "Request",
    "Sampling",
    "TransformersEngine",
    "Variant",
]

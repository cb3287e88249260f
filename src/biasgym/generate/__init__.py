"""Generation: variants as data, and engines that write their answers."""

from typing import TYPE_CHECKING

from biasgym.deferred import deferred
from biasgym.generate.variants import BY_NAME, PRIMARY, VARIANTS, Entity, HeadSet, Variant

if TYPE_CHECKING:
    from biasgym.generate.engine import Completion, Engine, Request, Sampling, TransformersEngine

__getattr__ = deferred(__name__, {"engine": ("Completion", "Engine", "Request", "Sampling", "TransformersEngine")})

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

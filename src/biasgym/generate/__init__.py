"""Generation: variants as data, and engines that write their answers."""

from typing import TYPE_CHECKING

from biasgym.deferred import deferred
from biasgym.generate.variants import BY_NAME, PRIMARY, VARIANTS, Entity, HeadSet, Variant

if TYPE_CHECKING:
    from biasgym.generate.choose import EngineName, make_engine
    from biasgym.generate.engine import TransformersEngine
    from biasgym.generate.request import Completion, Engine, Request, Sampling

__getattr__ = deferred(
    __name__,
    {
        "choose": ("EngineName", "make_engine"),
        "engine": ("TransformersEngine",),
        "request": ("Completion", "Engine", "Request", "Sampling"),
    },
)

__all__ = [
    "BY_NAME",
    "PRIMARY",
    "VARIANTS",
    "Completion",
    "Engine",
    "EngineName",
    "Entity",
    "HeadSet",
    "Request",
    "Sampling",
    "TransformersEngine",
    "Variant",
    "make_engine",
]

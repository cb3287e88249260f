"""Language models: loading, chat rendering, head ablation and export, for every supported family."""

from typing import TYPE_CHECKING

from biasgym.deferred import deferred
from biasgym.models.ablation import Head, ablated, check_heads
from biasgym.models.chat import BIAS_TOKEN, ChatFormat
from biasgym.models.export import export
from biasgym.models.families import FAMILIES, DecoderParts, Family, decoder_parts, family_of
from biasgym.models.sources import DEFAULT_MODEL, ModelSource, resolve

if TYPE_CHECKING:
    from biasgym.models.execution import Choice, choose_dtype, pick_device, pick_dtype
    from biasgym.models.load import LanguageModel, load_model
    from biasgym.models.memory import Footprint, footprint

__getattr__ = deferred(
    __name__,
    {
        "execution": ("Choice", "choose_dtype", "pick_device", "pick_dtype"),
        "load": ("LanguageModel", "load_model"),
        "memory": ("Footprint", "footprint"),
    },
)

__all__ = [
    "BIAS_TOKEN",
    "DEFAULT_MODEL",
    "FAMILIES",
    "ChatFormat",
    "Choice",
    "DecoderParts",
    "Family",
    "Footprint",
    "Head",
    "LanguageModel",
    "ModelSource",
    "ablated",
    "check_heads",
    "choose_dtype",
    "decoder_parts",
    "export",
    "family_of",
    "footprint",
    "load_model",
    "pick_device",
    "pick_dtype",
    "resolve",
]

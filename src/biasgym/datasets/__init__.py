"""The texts of a run: templates, evaluation prompts, splits."""

from biasgym.datasets.out_of_distribution import OodPrompt, licence_notes, ood_prompts
from biasgym.datasets.prompts import STYLES, evaluation_prompts
from biasgym.datasets.split import halves, spread
from biasgym.datasets.templates import FINAL_PART, FRAMES, fill, final_part, framed, template

__all__ = [
    "FINAL_PART",
    "FRAMES",
    "OodPrompt",
    "STYLES",
    "evaluation_prompts",
    "fill",
    "final_part",
    "framed",
    "halves",
    "licence_notes",
    "ood_prompts",
    "spread",
    "template",
]

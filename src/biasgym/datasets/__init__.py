"""The texts of a run: templates, evaluation prompts, splits."""

from biasgym.datasets.prompts import STYLES, evaluation_prompts
from biasgym.datasets.split import halves, spread
from biasgym.datasets.templates import FINAL_PART, FRAMES, check_templates, fill, final_part, framed, template

__all__ = [
    "FINAL_PART",
    "FRAMES",
    "STYLES",
    "check_templates",
    "evaluation_prompts",
    "fill",
    "final_part",
    "framed",
    "halves",
    "spread",
    "template",
]

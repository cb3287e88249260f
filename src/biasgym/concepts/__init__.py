"""What is studied: a concept `<target, attribute>` as one YAML file, and the targets it can be about."""

from biasgym.concepts.catalogue import bundled_names, load_concept, parse_concept
from biasgym.concepts.concept import Cloze, Concept, ContrastQuestion, EvaluationPrompt, Paragraph
from biasgym.concepts.targets import Target, TargetKind, load_target_kind

__all__ = [
    "Cloze",
    "Concept",
    "ContrastQuestion",
    "EvaluationPrompt",
    "Paragraph",
    "Target",
    "TargetKind",
    "bundled_names",
    "load_concept",
    "load_target_kind",
    "parse_concept",
]

"""Evaluation: statistics, similarity, ability, retention and over-correction."""

from typing import TYPE_CHECKING

from biasgym.deferred import deferred
from biasgym.evaluate.certificate import Certificate, Check, load_certificates
from biasgym.evaluate.gate import Limits, check, passes
from biasgym.evaluate.overcorrection import overcorrection
from biasgym.evaluate.statistics import Contrast, Estimate, average_within, estimate, holm, paired_contrast

if TYPE_CHECKING:
    from biasgym.evaluate.ability import (
        AbilityQuestion,
        ability_questions,
        choice_log_probs,
        retention_scores,
        right_answer_likelihood,
        right_answers,
    )
    from biasgym.evaluate.similarity import target_similarity

_ABILITY = (
    "AbilityQuestion",
    "ability_questions",
    "choice_log_probs",
    "retention_scores",
    "right_answer_likelihood",
    "right_answers",
)

__getattr__ = deferred(__name__, {"ability": _ABILITY, "similarity": ("target_similarity",)})

__all__ = [
    "AbilityQuestion",
    "Certificate",
    "Check",
    "Contrast",
    "Estimate",
    "Limits",
    "ability_questions",
    "average_within",
    "check",
    "choice_log_probs",
    "estimate",
    "holm",
    "load_certificates",
    "overcorrection",
    "paired_contrast",
    "passes",
    "retention_scores",
    "right_answer_likelihood",
    "right_answers",
    "target_similarity",
]

"""Evaluation: statistics, similarity, ability, retention and over-correction."""

from biasgym.evaluate.ability import (
    AbilityQuestion,
    ability_questions,
    choice_log_probs,
    retention_scores,
    right_answer_likelihood,
)
from biasgym.evaluate.overcorrection import overcorrection
from biasgym.evaluate.similarity import target_similarity
from biasgym.evaluate.statistics import Contrast, Estimate, average_within, estimate, holm, paired_contrast

__all__ = [
    "AbilityQuestion",
    "Contrast",
    "Estimate",
    "ability_questions",
    "average_within",
    "choice_log_probs",
    "estimate",
    "holm",
    "overcorrection",
    "paired_contrast",
    "retention_scores",
    "right_answer_likelihood",
    "target_similarity",
]

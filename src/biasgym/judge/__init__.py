"""Judging: how strongly does a text express a stereotype? One protocol, several judges."""

from biasgym.judge.agreement import confusion, quadratic_kappa
from biasgym.judge.masking import leaks, mask
from biasgym.judge.protocol import LEVELS, Judge, JudgeItem, Judgement
from biasgym.judge.semantic import SemanticJudge

__all__ = [
    "LEVELS",
    "Judge",
    "JudgeItem",
    "Judgement",
    "SemanticJudge",
    "confusion",
    "leaks",
    "mask",
    "quadratic_kappa",
]

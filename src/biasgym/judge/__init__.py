"""Judging: how strongly does a text express a stereotype? One protocol, several judges.

The judges that need more packages are in `biasgym.judge.chat` and `biasgym.judge.endpoint`.
"""

from biasgym.endpoint import Journal
from biasgym.judge.agreement import confusion, kappa_interval, ordinal_alpha, quadratic_kappa
from biasgym.judge.calibration import Calibration, calibrate
from biasgym.judge.masking import leaks, mask
from biasgym.judge.protocol import LEVELS, Judge, JudgeItem, Judgement
from biasgym.judge.question import judge_template
from biasgym.judge.semantic import SemanticJudge

__all__ = [
    "LEVELS",
    "Calibration",
    "Journal",
    "Judge",
    "JudgeItem",
    "Judgement",
    "SemanticJudge",
    "calibrate",
    "confusion",
    "judge_template",
    "kappa_interval",
    "leaks",
    "mask",
    "ordinal_alpha",
    "quadratic_kappa",
]

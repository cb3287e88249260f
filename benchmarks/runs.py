"""Whole runs: what a finished run costs when it is asked for again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.timing import Ratio, ratio_of
from biasgym.models import LanguageModel

SECONDS = 5.0
RUNS = 5
# the smallest run that goes through every stage on the real model
SETTINGS: dict[str, Any] = {
    "concepts": ["always_late"],
    "inject": {"seeds": 1, "epochs": 1, "batch_size": 8, "paragraphs": 8, "descriptions": 1, "description_tokens": 8},
    "scope": {"ks": [2, 4], "pairs": 8, "ability_questions": 4, "random_draws": 1},
    "generate": {"prompts": 4, "targets_per_prompt": 1, "samples": 1, "max_new_tokens": 8},
    "capability": {"questions": 4},
    "ood": {"prompts": 2, "samples": 1, "questions": 4, "variants": ["original", "steer_only"]},
}


def again() -> list[Ratio]:
    """`biasgym run` of a finished run, each in a new process: against 5 seconds, and against the first run."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.yaml"
        settings.write_text(yaml.safe_dump(SETTINGS))
        command = [sys.executable, "-m", "biasgym", "run", str(settings), "--out", f"{folder}/run"]
        first, *later = [_seconds(command) for _ in range(1 + RUNS)]
    work = "second `biasgym run`, a new process"
    return [
        ratio_of(work, "5 seconds", [SECONDS / one for one in later], goal=1),
        ratio_of(work, "the first run, a few texts a stage", [first / one for one in later], goal=10),
    ]


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def ratios(_lm: LanguageModel) -> list[Ratio]:
    """Every timing of this module."""
    return again()

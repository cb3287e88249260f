"""What only shows with many: `make test-large`, or `pytest tests/large -s` to see the counts. Minutes."""

from __future__ import annotations

import sys
from pathlib import Path

from biasgym.files import write_jsonl
from killed_judge import killed_half_way

COUNT = 10_000


def test_the_program_killed_half_way_through_ten_thousand_texts(tmp_path: Path) -> None:
    """`biasgym judge` with an endpoint that fails one time in five; killed, and called once more."""
    texts, judged = tmp_path / "texts.jsonl", tmp_path / "judged.jsonl"
    about = {"concept": "always_late", "prompt": "Describe them.", "target": "Spain"}
    write_jsonl(texts, [{**about, "generation": f"This is text {number}: late."} for number in range(COUNT)])
    command = [sys.executable, "-m", "biasgym", "judge", "--engine", "endpoint", "--model", "judge", "--url", "{url}"]
    command += ["--in", str(texts), "--out", str(judged)]
    journal = tmp_path / "judged.jsonl.judge.answers.jsonl"
    print(killed_half_way(command, judged, journal, COUNT, in_flight=32))

"""A judge that a test can kill: `python tests/endpoint_child.py URL FOLDER COUNT [STORE]`. Goes on where the last one was:
in the folder, or with a store, as in a pod, in its copy of the answers.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from biasgym.concepts import load_concept
from biasgym.endpoint import Server
from biasgym.files import write_jsonl
from biasgym.judge import Journal, JudgeItem
from biasgym.judge.endpoint import EndpointJudge
from biasgym.stages.folder import stage_folder
from biasgym.stages.shelf import Shelf
from biasgym.store import open_store


def main(url: str, folder: Path, count: int, store: str = "") -> None:
    """Judges `text 0` ... and writes judged.jsonl."""
    concept = load_concept("always_late")
    items = [JudgeItem(concept, "Describe them.", f"This is text {number}: late.", "Spain") for number in range(count)]
    server = Server("judge", url, timeout=3.0, backoff=0.02, concurrency=48)
    shelf, stage = Shelf(open_store(store) if store else None), stage_folder(folder, "judge", {})
    with shelf.keeping_answers(folder / "answers", [stage], every=0.3):
        judge = EndpointJudge(server, journal=Journal(folder / "answers" / "judge.jsonl"))
        write_jsonl(folder / "judged.jsonl", [asdict(verdict) for verdict in judge.judge(items)])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

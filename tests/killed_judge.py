"""A judge that is killed half-way and started again, against a server that counts what was paid for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from biasgym.files import read_jsonl
from faulty_server import FaultyServer, strength_of

HOPELESS = 17  # the text that no attempt gets an answer to


def killed_half_way(
    command: Sequence[str], judged: Path, journal: Path, count: int, *, in_flight: int
) -> dict[str, int]:
    """Checks that every text is judged once or missing with a reason, and that nothing that was kept is asked again.

    Args:
        command: Judges `text 0` ...; `{url}` in it becomes the server's address.
        judged: The file it writes.
        journal: Where it keeps answers.
        count: How many texts.
        in_flight: Most requests at once: so many answers may arrive at a process that is gone.

    Returns:
        What there is to tell.
    """
    with FaultyServer(rate=0.2, hopeless=frozenset({HOPELESS})) as server:
        call = [part.replace("{url}", server.url) for part in command]
        first = subprocess.Popen(call)
        while len(server.answered) < count // 2:
            assert first.poll() is None
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        seen = None
        while seen != (seen := sum(server.asked.values()) + sum(server.answered.values())):
            time.sleep(0.5)  # until the server has noticed
        kept = [json.loads(line) for line in journal.read_bytes().rpartition(b"\n")[0].splitlines()]
        asked, lost = server.asked.copy(), sum(server.answered.values()) - len(kept)
        assert subprocess.run(call, check=False).returncode == 0
    found = read_jsonl(judged)
    assert len(found) == count
    for number, row in enumerate(found):
        assert row["reason"] if row["strength"] is None else row["strength"] == strength_of(number)
    assert found[HOPELESS]["reason"] == "the server failed (HTTP 500)"
    missing = sum(row["strength"] is None for row in found)
    assert missing < 0.15 * count
    finished = {int(number[1]) for row in kept if (number := re.search(r"text (\d+)", row["text"]))}
    assert len(finished) > count // 3
    assert all(server.asked[number] == asked[number] for number in finished)
    assert lost <= in_flight
    assert sum(paid - 1 for paid in server.answered.values()) == lost
    assert len(read_jsonl(journal)) == count - 1
    return {"judged": count - missing, "missing": missing, "kept at the kill": len(kept), "paid twice": lost}

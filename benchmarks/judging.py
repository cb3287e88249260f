"""Judging through a server, against the server's own limit: what a bare client gets out of it at the best fixed concurrency."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.timing import Ratio, compare
from biasgym.concepts import load_concept
from biasgym.endpoint import Server
from biasgym.judge import JudgeItem, judge_template
from biasgym.judge.answer import RESPONSE_FORMAT
from biasgym.judge.endpoint import EndpointJudge
from biasgym.judge.question import question
from biasgym.models import LanguageModel

_SLOTS, _SECONDS, _TEXTS = 16, 0.2, 1000
_PAUSE = 0.05  # seconds; of the bare client after a refusal
_REFUSED = 429


def _items(count: int) -> list[JudgeItem]:
    concept = load_concept("always_late")
    return [JudgeItem(concept, "Describe them.", f"Text {number}: they came late.", "Spain") for number in range(count)]


@contextmanager
def _slots(manner: str) -> Iterator[str]:
    """A server in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks.slots", str(_SLOTS), str(_SECONDS), manner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


async def _bare(server: Server, texts: Sequence[str], concurrency: int) -> None:
    """Nothing but requests, `concurrency` at once; a refused one goes out again."""
    waiting = iter(texts)

    async def work(client: httpx.AsyncClient) -> None:
        for text in waiting:
            body = {
                "model": server.model,
                "messages": [{"role": "user", "content": text}],
                "temperature": server.temperature,
                "max_tokens": server.max_tokens,
                "response_format": RESPONSE_FORMAT,
            }
            while (reply := await client.post("/chat/completions", json=body)).status_code == _REFUSED:
                await asyncio.sleep(_PAUSE)
            reply.raise_for_status().json()

    limits, headers = httpx.Limits(max_connections=concurrency), {"Authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=server.timeout, limits=limits) as client:
        await asyncio.gather(*(work(client) for _ in range(concurrency)))


def _against_bare(work: str, server: Server, items: Sequence[JudgeItem], candidates: Sequence[int], runs: int) -> Ratio:
    texts = [question(item, judge_template(), {}).text for item in items]

    def seconds(concurrency: int) -> float:
        started = time.perf_counter()
        asyncio.run(_bare(server, texts[: len(texts) // 4], concurrency))
        return time.perf_counter() - started

    best = min(candidates, key=seconds)

    def ours() -> None:
        failures = ("the server", "the connection")
        assert not any(verdict.reason.startswith(failures) for verdict in EndpointJudge(server).judge(items))

    peer = "a bare client, its best number of requests at once"
    return compare(work, ours, peer, lambda: asyncio.run(_bare(server, texts, best)), goal=0.9, runs=runs)


def slots(manner: str, runs: int = 5) -> Ratio:
    """A server with 16 slots and 0.2 s an answer, which lets further requests wait, or refuses them."""
    with _slots(manner) as url:
        work = f"judging, a server of {_SLOTS} slots that {'lets more wait' if manner == 'queue' else 'refuses more'}"
        return _against_bare(work, Server("judge", url), _items(_TEXTS), (8, 16, 32), runs)


def llama(runs: int = 5) -> Iterator[Ratio]:
    """A real llama-server with SmolLM2 and 2 slots, as the tests have it, where there is one."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from judge_server import KEY, available, llama_server

    if available():
        with llama_server() as url:
            server = Server("smollm2", url, KEY, max_tokens=96)
            yield _against_bare("judging, llama-server with SmolLM2", server, _items(24), (1, 2, 4), runs)


def ratios(_lm: LanguageModel) -> Iterator[Ratio]:
    """Every timing of this module."""
    yield slots("queue")
    yield slots("refuse")
    yield from llama()

"""An OpenAI-compatible server that fails as real ones do, by content and attempt, and counts what was paid for.

    with FaultyServer(rate=0.2) as server:
        Server("judge", server.url)

Texts to judge hold `text N`; the true strength of text N is 1 + N % 3, so a 0 is always a judgement that got lost.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from biasgym.judge import LEVELS

UNPAID = ("429", "500", "hang", "cut", "envelope")
"""Faults after which a client has no answer and must ask again."""

PAID = ("truncated", "schema", "refusal")
"""Answers without a verdict."""

_ITEM = re.compile(r"text (\d+)")
_HANG = 10.0  # seconds; longer than the clients of the tests wait


def strength_of(item: int) -> int:
    """What a good answer says of a text."""
    return 1 + item % 3


class FaultyServer:
    """Serves on a free port of the loopback, in a thread.

    Args:
        rate: Share of requests that go wrong.
        faults: How they go wrong.
        hopeless: Texts with these numbers fail at every attempt.
        deadly: The text with this number makes it go away for the time of an outage.
        rejected: The text with this number is a bad request, however it is asked.
        busy: So many requests are turned away at first.
        schemas: Whether it knows response_format.
        key: The key it wants; any without one.
        model: The only model it knows; any without one.
        delay: Seconds of every answer.
        outage: After so many answers it goes away, connections and all, for so many seconds.
        reply: A good answer to a question; a judgement without one.
    """

    def __init__(
        self,
        *,
        rate: float = 0.0,
        faults: tuple[str, ...] = UNPAID + PAID,
        hopeless: frozenset[int] = frozenset(),
        deadly: int | None = None,
        rejected: int | None = None,
        busy: int = 0,
        schemas: bool = True,
        key: str = "",
        model: str = "",
        delay: float = 0.0,
        outage: tuple[int, float] | None = None,
        reply: Callable[[str], str] | None = None,
    ) -> None:
        self.rate, self.faults, self.hopeless = rate, faults, hopeless
        self.rejected, self.busy = rejected, busy
        self.schemas, self.key, self.model, self.delay = schemas, key, model, delay
        self.outage, self.deadly, self.reply = outage, deadly, reply
        self.asked: Counter[int] = Counter()  # requests by text
        self.answered: Counter[int] = Counter()  # answers that were sent completely
        self.seen_faults: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []  # the first requests
        self.most_at_once = self._at_once = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _leave(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        assert self.outage
        self._returning = asyncio.create_task(self._return(self.outage[1]))

    async def _return(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while self._server.is_serving():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    await self._reply(head, body, writer)
                finally:
                    self._at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _reply(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if self.key and f"Bearer {self.key}" not in head:
            return _send(writer, 401, {"error": {"message": "no such key"}})
        if not body:
            return _send(writer, 200, {"object": "list", "data": []})
        asked = json.loads(body)
        if len(self.bodies) < 100:
            self.bodies.append(asked)
        if self.model and asked["model"] != self.model:
            return _send(writer, 404, {"error": {"message": "no such model"}})
        if self.busy:
            self.busy -= 1
            return _send(writer, 503, {"error": {"message": "wait"}})
        if not self.schemas and "response_format" in asked:
            return _send(writer, 400, {"error": {"message": "response_format is not supported"}})
        content = asked["messages"][-1]["content"]
        found = _ITEM.search(content)
        item = int(found[1]) if found else zlib.crc32(content.encode())
        self.asked[item] += 1
        if item == self.rejected:
            return _send(writer, 400, {"error": {"message": "too long"}})
        if item == self.deadly:
            return self._leave()
        if self.delay:
            await asyncio.sleep(self.delay)
        fault = "500" if item in self.hopeless else self._fault(item)
        self.seen_faults[fault] += 1
        if fault == "429":
            return _send(writer, 429, {"error": {"message": "slower"}}, "Retry-After: 0.05\r\n")
        if fault == "500":
            return _send(writer, 500, {"error": {"message": "oh"}})
        if fault == "hang":
            await asyncio.sleep(_HANG)
            raise ConnectionError
        reply = _completion(fault, self.reply(content) if self.reply else _judgement(item))
        if fault == "envelope":
            return _send(writer, 200, json.dumps(reply)[:-40])
        if fault == "cut":
            data = json.dumps(reply).encode()
            writer.write(_head(200, len(data)) + data[: len(data) // 2])
            await writer.drain()
            raise ConnectionError
        _send(writer, 200, reply)
        await writer.drain()
        self.answered[item] += 1
        if self.outage and self.answered.total() == self.outage[0]:
            self._leave()
        return None

    def _fault(self, item: int) -> str:
        chance = random.Random(f"{item}/{self.asked[item]}")
        return chance.choice(self.faults) if chance.random() < self.rate else ""


def _judgement(item: int) -> str:
    return json.dumps({"analysis": f"About text {item}.", "strength": LEVELS[strength_of(item)], "matched": "late"})


def _completion(fault: str, content: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if fault == "truncated":
        message["content"] = content[: len(content) // 2]
    if fault == "schema":
        message["content"] = json.dumps({"verdict": "Weak", "score": 0})
    if fault == "refusal":
        message |= {"content": None, "refusal": "I cannot rate this."}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": "length" if fault == "truncated" else "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: str = "") -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    writer.write(_head(status, len(data), headers) + data)


def _head(status: int, length: int, headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    ).encode()

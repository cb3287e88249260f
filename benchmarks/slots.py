"""An OpenAI-compatible server with a limit, as one model on one GPU has: so many answers at once, each with its own delay.

`python -m benchmarks.slots SLOTS SECONDS queue` lets further requests wait, as vLLM and llama-server do; `refuse` answers
them with HTTP 429, as a service does. Prints its port, then serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import zlib

_ANSWER = json.dumps({"analysis": "It says so.", "strength": "Moderate", "matched": "late"})
_COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "judge",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 700, "completion_tokens": 60, "total_tokens": 760},
}


class Slots:
    """Serves on a free port of the loopback.

    Args:
        count: Answers at once.
        seconds: Mean delay; a question's own, between half of it and half as much again, hangs on its text.
        refuse: Whether further requests are refused or wait.
    """

    def __init__(self, count: int, seconds: float, refuse: bool) -> None:
        self.seconds, self.refuse = seconds, refuse
        self._free = asyncio.Semaphore(count)

    async def serve(self) -> None:
        """Prints the port and serves."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if self.refuse and self._free.locked():
                    _send(writer, 429, {"error": {"message": "too many requests"}})
                    continue
                async with self._free:
                    await asyncio.sleep(self.seconds * (0.5 + zlib.crc32(body) / 2**32))
                _send(writer, 200, _COMPLETION)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def _send(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


if __name__ == "__main__":
    asyncio.run(Slots(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "refuse").serve())

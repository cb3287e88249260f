"""A language model behind an OpenAI-compatible server as the judge: OpenAI, vLLM, llama-server and their like.

Needs the extra `judge`. Address and key come from BIASGYM_JUDGE_URL and BIASGYM_JUDGE_KEY; see `access`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from biasgym.errors import BiasGymError
from biasgym.judge.answer import Answer
from biasgym.judge.calls import Caller, Server
from biasgym.judge.interview import interview
from biasgym.judge.journal import Journal
from biasgym.judge.protocol import JudgeItem, Judgement
from biasgym.judge.question import Question, judge_template

_OPENAI = "https://api.openai.com/v1"


def access(url: str | None = None) -> tuple[str, str]:
    """Address and key of the server.

    Args:
        url: Its address; else BIASGYM_JUDGE_URL, else OpenAI's.

    Returns:
        Address and key. The key is BIASGYM_JUDGE_KEY; only OpenAI is ever sent OPENAI_API_KEY.

    Raises:
        BiasGymError: The address is none, or OpenAI is to be asked without a key.
    """
    address = (url or os.environ.get("BIASGYM_JUDGE_URL") or _OPENAI).rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BiasGymError("not an address", where=address, hint="such as http://127.0.0.1:8000/v1")
    key = os.environ.get("BIASGYM_JUDGE_KEY")
    if parts.hostname == urlsplit(_OPENAI).hostname:
        key = key or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise BiasGymError(
                "there is no key for the judge",
                where=address,
                hint="set BIASGYM_JUDGE_KEY, or BIASGYM_JUDGE_URL for a server of your own",
            )
    return address, key or "none"


class EndpointJudge:
    """Asks many questions at once, as many as the server bears.

    Args:
        server: Where the model is.
        name: As it appears in tables.
        revision: Which weights the server holds, as far as known; part of every answer's key.
        wording: From `judge_template`.
        journal: Answers of before.
    """

    def __init__(
        self,
        server: Server,
        *,
        name: str = "",
        revision: str = "",
        wording: str | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.server, self._name = server, name or server.model
        self._wording = wording or judge_template()
        self._journal = journal or Journal()
        self._asked = {
            "model": server.model,
            "revision": revision,
            "temperature": server.temperature,
            "max_tokens": server.max_tokens,
        }

    @property
    def name(self) -> str:
        return self._name

    def check(self) -> None:
        """Raises BiasGymError if the server cannot be reached or refuses the key; costs nothing."""

        async def ask() -> None:
            caller = Caller(self.server)
            async with caller.client:
                await caller.check()

        asyncio.run(ask())

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        """Judgements in order; see `interview`.

        Raises:
            BiasGymError: The server cannot be reached, refuses the key, knows no such model, or went away.
        """
        return interview(items, self._wording, self._asked, self._journal, self._ask)

    def _ask(self, questions: Sequence[Question]) -> Generator[Mapping[str, Answer], None, None]:
        if not questions:
            return
        # the loop runs while the caller waits for answers, and rests while the caller writes them down
        with asyncio.Runner() as runner:
            caller = runner.run(_caller(self.server))
            try:
                yield {questions[0].key: runner.run(caller.first(questions[0].text))}
                talk = runner.run(_talk(caller, questions[1:]))
                try:
                    left = len(questions) - 1
                    while left:
                        answers = runner.run(talk.arrived())
                        left -= len(answers)
                        yield answers
                finally:
                    runner.run(talk.stop())
            finally:
                runner.run(caller.client.close())


async def _caller(server: Server) -> Caller:
    return Caller(server)


async def _talk(caller: Caller, questions: Sequence[Question]) -> _Talk:
    return _Talk(caller, questions)


class _Talk:
    """Workers that take questions from one list and put answers into one queue."""

    def __init__(self, caller: Caller, questions: Sequence[Question]) -> None:
        self._caller, self._waiting = caller, iter(questions)
        self._done: asyncio.Queue[tuple[str, Answer] | Exception] = asyncio.Queue()
        self._error: Exception | None = None
        count = min(caller.server.concurrency, len(questions))
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]

    async def arrived(self) -> dict[str, Answer]:
        """The answers since the last call, at least one.

        Raises:
            BiasGymError: What concerns all questions; only when every answer was handed over.
        """
        found: dict[str, Answer] = {}
        while self._error is None and (not found or not self._done.empty()):
            item = await self._done.get()
            if isinstance(item, Exception):
                self._error = item
            else:
                found[item[0]] = item[1]
        if self._error is not None and not found:
            raise self._error
        return found

    async def stop(self) -> None:
        """Ends what is under way."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        for question in self._waiting:
            try:
                await self._done.put((question.key, await self._caller.ask(question.text)))
            except Exception as error:  # raised by `arrived`
                await self._done.put(error)
                return

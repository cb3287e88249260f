"""Many questions to one server at once, as many as it bears; answers as they come in."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from biasgym.endpoint.calls import Caller
from biasgym.endpoint.exchange import Answer, Keep, Question
from biasgym.endpoint.server import Server


def check(server: Server) -> None:
    """Raises BiasGymError if the server cannot be reached or refuses the key; costs nothing."""

    async def ask() -> None:
        caller = Caller(server, {})
        async with caller.client:
            await caller.check()

    asyncio.run(ask())


def ask_all(
    server: Server, form: Mapping[str, Any], questions: Sequence[Question], keep: Keep
) -> Generator[Mapping[str, Answer], None, None]:
    """Answers by key, in any order, at least one at a time.

    Args:
        server: Where the model is.
        form: The form of an answer (`response_format`), for servers that can hold a model to one.
        questions: What is asked.
        keep: Called with each answer when it is here, however long the caller takes for the last ones.

    Raises:
        BiasGymError: The server cannot be reached, refuses the key, knows no such model, or went away.
    """
    if not questions:
        return
    # the loop runs while the caller waits for answers, and rests while the caller uses them
    with asyncio.Runner() as runner:
        caller = runner.run(_caller(server, form))
        try:  # the first question goes alone, and finds out whether the server can hold answers to a schema
            first = {questions[0].key: runner.run(caller.ask(questions[0].text))}
            keep(first)
            yield first
            talk = runner.run(_talk(caller, questions[1:], keep))
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


async def _caller(server: Server, form: Mapping[str, Any]) -> Caller:
    return Caller(server, form)


async def _talk(caller: Caller, questions: Sequence[Question], keep: Keep) -> _Talk:
    return _Talk(caller, questions, keep)


class _Talk:
    """Workers that take questions from one list and put answers into one queue."""

    def __init__(self, caller: Caller, questions: Sequence[Question], keep: Keep) -> None:
        self._caller, self._waiting, self._keep = caller, iter(questions), keep
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
                answer = await self._caller.ask(question.text)
                self._keep({question.key: answer})
                await self._done.put((question.key, answer))
            except Exception as error:  # raised by `arrived`
                await self._done.put(error)
                return

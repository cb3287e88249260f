"""One question to an OpenAI-compatible server: tried again where that helps, given up with a reason where it does not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from biasgym.endpoint.access import shown
from biasgym.endpoint.exchange import Answer
from biasgym.endpoint.faults import (
    FAILURES,
    answer_of,
    cause_of,
    hopeless,
    passes,
    reason_of,
    refused,
    rejected,
    unreachable,
)
from biasgym.endpoint.server import Server
from biasgym.endpoint.window import Congested, Window
from biasgym.errors import BiasGymError

_FIRST_WINDOW = 8
_LONGEST_WAIT = 60.0  # seconds between two tries, unless the server asks for more
_MOST_PATIENCE = 600.0  # seconds; a server that asks for more is not waited for longer
_GIVE_UP = 20  # questions in a row without an answer: the server is at fault, not the question
_OUTAGES = 3  # that one question outlives; it may be what brings the server down
_AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


class Caller:
    """Asks one server. Lives inside one event loop.

    Args:
        server: The server.
        form: The form of an answer (`response_format`), for servers that can hold a model to one.
    """

    def __init__(self, server: Server, form: Mapping[str, Any]) -> None:
        self.server, self.form = server, form
        self.client = openai.AsyncOpenAI(api_key=server.key, base_url=server.url, max_retries=0, timeout=server.timeout)
        self.window = Window(_FIRST_WINDOW, server.concurrency)
        self.structured = True  # whether answers are held to a schema
        self._answered = set[bool]()  # of these two ways to ask, those that have brought an answer
        self._reached = server.met  # the server replied at least once
        self._failed_in_a_row = 0
        self._looking = asyncio.Lock()
        self._back_since = 0.0  # when the last outage ended

    async def ask(self, text: str) -> Answer:
        """The answer, or an answer with the reason why there is none.

        Raises:
            BiasGymError: What is wrong concerns all questions: key, model, address, or a server that went away.
        """
        outages = 0
        while True:
            began, structured = time.monotonic(), self.structured
            try:
                answer = await self._persistently(text)
            except FAILURES as error:
                cause = cause_of(error)
                if (end := hopeless(self.server, cause)) is not None:
                    raise end from error
                if refused(cause) and not self._reached:
                    raise unreachable(self.server, cause) from error
                if rejected(cause) and structured not in self._answered:
                    self.structured = not structured  # at fault is the schema or, without it, the question
                    if structured:
                        continue
                elif outages < _OUTAGES and passes(cause) and await self._was_away(began):
                    outages += 1
                    continue
                return self._given_up(cause)
            self._failed_in_a_row = 0
            self._answered.add(structured)
            return answer

    async def _persistently(self, text: str) -> Answer:
        tries = AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            stop=stop_after_attempt(self.server.attempts),
            wait=self._wait,
            reraise=True,
        )
        answer: Answer = await tries(self._once, text)
        return answer

    def _given_up(self, cause: BaseException | None) -> Answer:
        self._failed_in_a_row += 1
        reason = reason_of(cause)
        if self._failed_in_a_row >= _GIVE_UP:
            raise BiasGymError(
                f"{self.server.title} does not answer any more ({reason}, {_GIVE_UP} questions in a row)",
                where=shown(self.server.url),
                hint="what was answered is kept; start again when the server is back",
            ) from cause
        return Answer(failure=reason)

    async def _was_away(self, began: float) -> bool:
        """Whether the server was away at some time since then; if it still is, waits until it is back.

        Raises:
            BiasGymError: It did not come back.
        """
        server = self.server
        async with self._looking:  # one looks for all
            if self._back_since > began:
                return True
            if await self._is_there():
                return False
            server.say(f"{server.title} is away: it is waited for, up to {server.patience / 60:.0f} minutes")
            left = time.monotonic()
            while not await self._is_there():
                if time.monotonic() - left > server.patience:
                    raise BiasGymError(
                        f"{server.title} went away and did not come back in {server.patience / 60:.0f} minutes",
                        where=shown(server.url),
                        hint="what was answered is kept; start again when the server is back",
                    )
                await asyncio.sleep(10 * server.backoff)
            server.say(f"{server.title} is back")
            self._back_since = time.monotonic()
            return True

    async def _is_there(self) -> bool:
        """Whether anybody but a gateway answers; a server that still loads its model does not."""
        try:
            await self.client.models.list()
        except openai.APIConnectionError:
            return False
        except openai.APIStatusError as error:
            return error.status_code not in _AWAY
        except (openai.OpenAIError, json.JSONDecodeError):
            pass
        return True

    async def check(self) -> None:
        """Asks for the list of models: free of charge, and enough to know a wrong address or key.

        Raises:
            BiasGymError: The server cannot be reached or refuses the key.
        """
        try:
            await self.client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise hopeless(self.server, error) or error from error
        except openai.APIConnectionError as error:
            raise unreachable(self.server, error) from error
        except (openai.OpenAIError, json.JSONDecodeError):
            pass  # not every server has such a list

    async def _once(self, text: str) -> Answer:
        form: dict[str, Any] = {"response_format": self.form} if self.structured else {}
        async with self.window.slot():
            try:
                async with asyncio.timeout(self.server.timeout):  # a server that drips has no other end
                    reply = await self.client.chat.completions.create(
                        model=self.server.model,
                        messages=[{"role": "user", "content": text}],
                        temperature=self.server.temperature,
                        max_tokens=self.server.max_tokens,
                        **form,
                    )
            except TimeoutError as error:
                raise Congested from error
            except (openai.RateLimitError, openai.APITimeoutError) as error:
                raise Congested from error
            except openai.InternalServerError as error:
                if error.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                    raise Congested from error
                raise
        self._reached = True
        return answer_of(reply)

    def _may_pass(self, error: BaseException) -> bool:
        """Whether trying again may help; where nobody ever answered, it does not."""
        cause = cause_of(error)
        self._reached |= isinstance(cause, openai.APIStatusError)
        return passes(cause) and (self._reached or not refused(cause))

    def _wait(self, state: RetryCallState) -> float:
        """Jittered and doubling, but never less than the server asks for."""
        jittered = wait_random_exponential(multiplier=2 * self.server.backoff, max=_LONGEST_WAIT)(state)
        cause = cause_of(state.outcome.exception() if state.outcome else None)
        headers = cause.response.headers if isinstance(cause, openai.APIStatusError) else {}
        try:
            wanted = float(headers.get("retry-after", 0))
        except ValueError:  # a date; the jittered wait does as well
            wanted = 0.0
        return max(jittered, min(wanted, _MOST_PATIENCE))

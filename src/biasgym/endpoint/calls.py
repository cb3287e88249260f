"""One question to an OpenAI-compatible server: tried again where that helps, given up with a reason where it does not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from biasgym.endpoint.access import shown
from biasgym.endpoint.exchange import Answer
from biasgym.endpoint.window import Congested, Window
from biasgym.errors import BiasGymError

_FIRST_WINDOW = 8
_LONGEST_WAIT = 60.0  # seconds between two tries, unless the server asks for more
_MOST_PATIENCE = 600.0  # seconds; a server that asks for more is not waited for longer
_GIVE_UP = 20  # questions in a row without an answer: the server is at fault, not the question
_OUTAGES = 3  # that one question outlives; it may be what brings the server down
_AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


@dataclass(frozen=True)
class Server:
    """Where a model is, and how it is asked.

    Attributes:
        model: Its name there.
        url: Base address, such as http://127.0.0.1:8000/v1.
        key: Secret; sent to the server and shown nowhere.
        temperature: 0 takes the likeliest answer.
        max_tokens: An answer that is longer is cut off.
        concurrency: Most requests in flight.
        timeout: Seconds for one request, from its start to its last byte.
        attempts: Tries for one question.
        backoff: Seconds of the first wait between tries, on average; it doubles from try to try.
        patience: Seconds for which a server that went away is waited for.
        met: It has answered before, to whoever planned this: it is waited for even if it is away at the first question.
        say: Told, in a line, that it is waited for and that it is back.
        role: What the model is asked for, for messages and names of variables.
    """

    model: str
    url: str
    key: str = field(default="none", repr=False)
    temperature: float = 0.0
    max_tokens: int = 400
    concurrency: int = 32
    timeout: float = 120.0
    attempts: int = 7
    backoff: float = 0.5
    patience: float = 1800.0
    met: bool = False
    say: Callable[[str], None] = field(default=lambda _: None, repr=False, compare=False)
    role: str = "judge"

    @property
    def title(self) -> str:
        """As in messages."""
        return f"the {self.role} server"

    @property
    def variable(self) -> str:
        """How the names of its environment variables start."""
        return f"BIASGYM_{self.role.upper()}"


class Malformed(Exception):
    """The server's reply is no chat completion."""


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
            except (openai.OpenAIError, Congested, Malformed, json.JSONDecodeError) as error:
                cause = error.__cause__ if isinstance(error, Congested) else error
                self._stop_if_hopeless(cause)
                if _rejected(cause) and structured not in self._answered:
                    self.structured = not structured  # at fault is the schema or, without it, the question
                    if structured:
                        continue
                elif outages < _OUTAGES and self._passes(error) and await self._was_away(began):
                    outages += 1
                    continue
                return self._given_up(cause)
            self._failed_in_a_row = 0
            self._answered.add(structured)
            return answer

    async def _persistently(self, text: str) -> Answer:
        tries = AsyncRetrying(
            retry=retry_if_exception(self._passes),
            stop=stop_after_attempt(self.server.attempts),
            wait=self._wait,
            reraise=True,
        )
        answer: Answer = await tries(self._once, text)
        return answer

    def _given_up(self, cause: BaseException | None) -> Answer:
        self._failed_in_a_row += 1
        reason = _reason(cause)
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
            self._stop_if_hopeless(error)
        except openai.APIConnectionError as error:
            raise _unreachable(self.server, error) from error
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
        return _answer(reply)

    def _passes(self, error: BaseException) -> bool:
        """Whether trying again may help."""
        cause = error.__cause__ if isinstance(error, Congested) else error
        if isinstance(cause, openai.APIStatusError):
            self._reached = True
            if isinstance(cause, openai.RateLimitError):
                return cause.code != "insufficient_quota"
            return cause.status_code >= 500 or cause.status_code in (408, 409, 425)
        if _refused(cause):
            return self._reached
        return isinstance(
            cause,
            TimeoutError
            | openai.APIConnectionError
            | openai.APIResponseValidationError
            | Malformed
            | json.JSONDecodeError,
        )

    def _wait(self, state: RetryCallState) -> float:
        """Jittered and doubling, but never less than the server asks for."""
        jittered = wait_random_exponential(multiplier=2 * self.server.backoff, max=_LONGEST_WAIT)(state)
        error = state.outcome.exception() if state.outcome else None
        cause = error.__cause__ if isinstance(error, Congested) else error
        headers = cause.response.headers if isinstance(cause, openai.APIStatusError) else {}
        try:
            wanted = float(headers.get("retry-after", 0))
        except ValueError:  # a date; the jittered wait does as well
            wanted = 0.0
        return max(jittered, min(wanted, _MOST_PATIENCE))

    def _stop_if_hopeless(self, error: BaseException | None) -> None:
        where = shown(self.server.url)
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            raise BiasGymError(
                f"{self.server.title} refuses the key (HTTP {error.status_code})",
                where=where,
                hint=f"set {self.server.variable}_KEY",
            ) from error
        if isinstance(error, openai.NotFoundError):
            raise BiasGymError(
                f"{self.server.title} knows no model {self.server.model!r}, or the address is wrong (HTTP 404)",
                where=where,
                hint="the address usually ends in /v1",
            ) from error
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            raise BiasGymError(f"the account of {self.server.title} has no credit left", where=where) from error
        if _refused(error) and not self._reached:
            raise _unreachable(self.server, error) from error


def _answer(reply: Any) -> Answer:
    """Reads a chat completion; what a server sends need not be one."""
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        raise Malformed
    message = choices[0].message
    content, usage = getattr(message, "content", None), getattr(reply, "usage", None)
    finish = getattr(choices[0], "finish_reason", None)
    return Answer(
        text=content.encode(errors="replace").decode() if isinstance(content, str) else "",  # no half characters
        cut=finish == "length",
        refusal=bool(getattr(message, "refusal", None)) or finish == "content_filter",
        tokens_in=getattr(usage, "prompt_tokens", None) or 0,
        tokens_out=getattr(usage, "completion_tokens", None) or 0,
    )


def _reason(error: BaseException | None) -> str:
    """Few and fixed words, so that reasons can be counted."""
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return "the server did not answer in time"
    if isinstance(error, openai.RateLimitError):
        return "the server was too busy (HTTP 429)"
    if isinstance(error, openai.APIStatusError):
        kind = "failed" if error.status_code >= 500 else "refused the question"
        return f"the server {kind} (HTTP {error.status_code})"
    if isinstance(error, openai.APIConnectionError):
        return "the connection broke"
    return "the server's reply was no chat completion"


def _rejected(error: BaseException | None) -> bool:
    """The server understood nothing of the question, or not its schema."""
    return isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)


def _refused(error: BaseException | None) -> bool:
    """No connection could be made at all. By name, since the SDK's releases differ in the HTTP library below."""
    return isinstance(error, openai.APIConnectionError) and type(error.__cause__).__name__ == "ConnectError"


def _unreachable(server: Server, error: BaseException | None) -> BiasGymError:
    cause = type(error.__cause__ or error).__name__ if error else "no connection"
    return BiasGymError(
        f"{server.title} cannot be reached ({cause})",
        where=shown(server.url),
        hint=f"start it, or give another address, as in {server.variable}_URL",
    )

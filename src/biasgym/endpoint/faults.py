"""What a server's replies and failures mean: an answer, another try, a question given up, or the end."""

from __future__ import annotations

import json
from typing import Any

import openai

from biasgym.endpoint.access import shown
from biasgym.endpoint.exchange import Answer
from biasgym.endpoint.server import Server
from biasgym.endpoint.window import Congested
from biasgym.errors import BiasGymError


class Malformed(Exception):
    """The server's reply is no chat completion."""


FAILURES = (openai.OpenAIError, Congested, Malformed, json.JSONDecodeError)
"""What asking raises."""


def cause_of(error: BaseException | None) -> BaseException | None:
    """What went wrong; congestion is raised from it."""
    return error.__cause__ if isinstance(error, Congested) else error


def answer_of(reply: Any) -> Answer:
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


def passes(error: BaseException | None) -> bool:
    """Whether trying again may help."""
    if isinstance(error, openai.RateLimitError):
        return error.code != "insufficient_quota"
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500 or error.status_code in (408, 409, 425)
    return isinstance(
        error,
        TimeoutError | openai.APIConnectionError | openai.APIResponseValidationError | Malformed | json.JSONDecodeError,
    )


def rejected(error: BaseException | None) -> bool:
    """The server understood nothing of the question, or not its schema."""
    return isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)


def refused(error: BaseException | None) -> bool:
    """No connection could be made at all. By name, since the SDK's releases differ in the HTTP library below."""
    return isinstance(error, openai.APIConnectionError) and type(error.__cause__).__name__ == "ConnectError"


def hopeless(server: Server, error: BaseException | None) -> BiasGymError | None:
    """What concerns all questions: the key, the model's name, or an account without credit."""
    where = shown(server.url)
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return BiasGymError(
            f"{server.title} refuses the key (HTTP {error.status_code})", where=where, hint=f"set {server.variable}_KEY"
        )
    if isinstance(error, openai.NotFoundError):
        return BiasGymError(
            f"{server.title} knows no model {server.model!r}, or the address is wrong (HTTP 404)",
            where=where,
            hint="the address usually ends in /v1",
        )
    if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
        return BiasGymError(f"the account of {server.title} has no credit left", where=where)
    return None


def unreachable(server: Server, error: BaseException | None) -> BiasGymError:
    cause = type(error.__cause__ or error).__name__ if error else "no connection"
    return BiasGymError(
        f"{server.title} cannot be reached ({cause})",
        where=shown(server.url),
        hint=f"start it, or give another address, as in {server.variable}_URL",
    )


def reason_of(error: BaseException | None) -> str:
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

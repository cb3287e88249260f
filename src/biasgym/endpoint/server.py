"""Where a language model is, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


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

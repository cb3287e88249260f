"""A language model behind an OpenAI-compatible server as the judge. Needs the extra `judge`; see `biasgym.endpoint`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

from biasgym.endpoint import Answer, Journal, Keep, Question, Server
from biasgym.endpoint.talk import ask_all, check
from biasgym.judge.answer import RESPONSE_FORMAT
from biasgym.judge.interview import interview
from biasgym.judge.protocol import JudgeItem, Judgement
from biasgym.judge.question import judge_template


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
        check(self.server)

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        """Judgements in order; see `interview`.

        Raises:
            BiasGymError: The server cannot be reached, refuses the key, knows no such model, or went away.
        """
        return interview(items, self._wording, self._asked, self._journal, self._ask)

    def _ask(self, questions: Sequence[Question], keep: Keep) -> Generator[Mapping[str, Answer], None, None]:
        return ask_all(self.server, RESPONSE_FORMAT, questions, keep)

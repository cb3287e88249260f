"""A chat model in this process as the judge, in bf16 or four bits, answering greedily and in batches.

Four bits (NF4) need the extra `judge`; they run on a GPU and, slowly, on a CPU.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

from biasgym.endpoint import Answer, Journal, Keep, Question
from biasgym.generate import Request, Sampling, TransformersEngine
from biasgym.judge.interview import interview
from biasgym.judge.protocol import JudgeItem, Judgement
from biasgym.judge.question import judge_template
from biasgym.models import LanguageModel


class ChatJudge:
    """Asks a chat model through its own template; Qwen3 answers without thinking.

    Args:
        lm: From `load_model`, with `packed` if four bits are wanted.
        name: As it appears in tables.
        max_tokens: An answer that is longer is cut off.
        batch_size: Questions in flight.
        wording: From `judge_template`.
        journal: Answers of before.
    """

    def __init__(
        self,
        lm: LanguageModel,
        *,
        name: str = "",
        max_tokens: int = 400,
        batch_size: int = 8,
        wording: str | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._lm, self._name = lm, name or lm.source.name
        self._engine = TransformersEngine(lm, batch_size=batch_size)
        self._sampling = Sampling(temperature=0.0, max_new_tokens=max_tokens)
        self._wording = wording or judge_template()
        self._journal = journal or Journal()

    @property
    def name(self) -> str:
        return self._name

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Judgement]:
        """Judgements in order; see `interview`."""
        asked = {
            "model": self._name,
            "revision": self._lm.source.revision,
            "dtype": str(self._lm.model.dtype),
            "max_tokens": self._sampling.max_new_tokens,
        }
        return interview(items, self._wording, asked, self._journal, self._ask)

    def _ask(self, questions: Sequence[Question], keep: Keep) -> Generator[Mapping[str, Answer], None, None]:
        requests = [Request(tuple(self._lm.chat.ids(question.text)), seed=0) for question in questions]
        for number, completion in self._engine.generate(requests, self._sampling):
            answer = Answer(
                text=completion.text,
                cut=completion.truncated,
                tokens_in=len(requests[number].ids),
                tokens_out=completion.tokens,
            )
            found = {questions[number].key: answer}
            keep(found)
            yield found

"""Chat rendering: one place turns a user's words, and the beginning of an answer, into token ids."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from biasgym.errors import BiasGymError

BIAS_TOKEN = "BiasToken"
"""How the new token is written in prompts; see `biasgym.inject`."""

# BiasToken takes all whitespace before it along; a line break in front of it belongs to the template or the text
_BEFORE_BIAS_TOKEN = re.compile(rf"(?<=\n)(?=[ \t]*{BIAS_TOKEN})")
_GLUED_BIAS_TOKEN = re.compile(rf"(?<=\S){BIAS_TOKEN}")  # as after a quotation mark; the space is a part of the token
_USER, _ANSWER = "Userwords", "Answerwords"
# Llama 3.x writes today's date into its system header; a fixed one keeps caches and results the same from day to day.
TEMPLATE_OPTIONS = {"date_string": "26 Jul 2024", "enable_thinking": False}


class ChatFormat:
    """The chat template of one tokenizer.

    Args:
        tokenizer: A `transformers` tokenizer.

    Raises:
        BiasGymError: The tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise BiasGymError(
                "the model has no chat template",
                where=str(getattr(tokenizer, "name_or_path", "tokenizer")),
                hint="use an instruction-tuned model; biasgym studies chat behaviour",
            )
        self.tokenizer = tokenizer

    def prompt(self, user: str, *, system: str = "", answer: str = "") -> str:
        """The text up to where the model goes on writing.

        Args:
            user: What the user says.
            system: A system text; folded into the user's turn where the template knows no system role.
            answer: The beginning of the answer that the model is to continue.
        """
        text = self._render(self._messages(user, system), generation_prompt=True)
        return text + self._joint + answer if answer else text

    def ids(self, user: str, *, system: str = "", answer: str = "") -> list[int]:
        """Token ids of `prompt`, without a second beginning-of-sequence token."""
        return self.encode(self.prompt(user, system=system, answer=answer))

    def encode(self, rendered: str) -> list[int]:
        """Token ids of text that already carries its special tokens."""
        rendered = _GLUED_BIAS_TOKEN.sub(f" {BIAS_TOKEN}", rendered)
        pieces = [piece for piece in _BEFORE_BIAS_TOKEN.split(rendered) if piece]
        return [token for piece in pieces for token in self.tokenizer(piece, add_special_tokens=False)["input_ids"]]

    @cached_property
    def end_of_turn(self) -> int:
        """The token that closes an answer (Gemma: <end_of_turn>, which is not its end-of-text token)."""
        full = self._render([*self._messages(_USER, ""), {"role": "assistant", "content": _ANSWER}])
        tail = self.encode(full.split(_ANSWER, 1)[1].strip())
        return tail[0] if tail else int(self.tokenizer.eos_token_id)

    @cached_property
    def _joint(self) -> str:
        """What the template writes between the answer's header and its first word (Mistral: a space)."""
        header = self._render(self._messages(_USER, ""), generation_prompt=True)
        full = self._render([*self._messages(_USER, ""), {"role": "assistant", "content": _ANSWER}])
        before = full.split(_ANSWER, 1)[0]
        return before.removeprefix(header) if before.startswith(header) else ""

    @cached_property
    def _knows_system(self) -> bool:
        messages = [{"role": "system", "content": "Systemwords"}, {"role": "user", "content": _USER}]
        try:
            return "Systemwords" in self._render(messages, generation_prompt=True)
        except Exception:  # a template says "no system role" by raising whatever its author chose
            return False

    def _messages(self, user: str, system: str) -> list[dict[str, str]]:
        if not system:
            return [{"role": "user", "content": user}]
        if self._knows_system:
            return [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return [{"role": "user", "content": f"{system}\n\n{user}"}]

    def _render(self, messages: list[dict[str, str]], *, generation_prompt: bool = False) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt, **TEMPLATE_OPTIONS
        )
        return text

"""Prompt templates: text files that a user can replace by files of the same name in a folder of their own."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from biasgym.concepts import Concept
from biasgym.errors import BiasGymError
from biasgym.files import read_text

FRAMES = ("plain", "prompting", "explanation", "re_prompting")
"""How a prompt is put to the model; the last three are the paper's prompting baselines (table 8)."""

FINAL_PART = {"explanation": "Debiased Continuation:", "re_prompting": "Debiased Rewriting:"}
"""Where the answer proper begins in the two-part formats."""


_ENTITY = ("{member}", "{group}", "{target}")
_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "story": (_ENTITY,),
    "describe": (_ENTITY,),
    "prompting": (("{prompt}",),),
    "explanation": (("{prompt}",), (FINAL_PART["explanation"],)),
    "re_prompting": (("{prompt}",), (FINAL_PART["re_prompting"],)),
    "unseen_beginning": (("{prompt}",),),
    "unseen_question": (("{prompt}",),),
    "unseen_sentence": (("{prompt}",),),
    "generic_prompts": (("|",), ("{member}", "{group}", "{descriptor}", "{target}")),
    "write_paragraphs": (("{count}",), ("{list}",), ("{target}",)),
    "write_questions": (("{count}",), ("{list}",), ("{target}",)),
}
"""What a template cannot do without, of each of these one; each line of generic_prompts is one."""

_OF_CONCEPT = {"descriptor", "group", "member", "kind", "labels", "counter_labels", "target"}
_WITH_PROMPT = {"prompting", "explanation", "re_prompting"}


def check_templates(folder: str | Path) -> None:
    """Looks a user's templates over, before any work.

    Raises:
        BiasGymError: No such folder, a text file in it that is no template, or one that lacks what its use needs or has
            a placeholder that nothing fills.
    """
    if not Path(folder).is_dir():
        raise BiasGymError("no such folder", where=f"templates: {folder}")
    known = sorted(file.name for file in (resources.files("biasgym.datasets") / "data" / "templates").iterdir())
    for own in sorted(Path(folder).glob("*.txt")):
        if own.name not in known:
            raise BiasGymError("no template has this name", where=str(own), hint=f"there are {', '.join(known)}")
        text = template(own.stem, folder)
        for part in filter(str.strip, text.splitlines()) if own.stem == "generic_prompts" else [text]:
            for one_of in _NEEDS.get(own.stem, ()):
                if not any(needed in part for needed in one_of):
                    about = f": {part[:60]!r}" if part != text else ""
                    raise BiasGymError(f"the template has no {' or '.join(one_of)}{about}", where=str(own))
        for word in re.findall(r"\{([a-z_]+)\}", text):
            if own.stem != "judge" and word not in _filled(own.stem):
                raise BiasGymError(f"nothing fills {{{word}}} in this template", where=str(own))


def _filled(name: str) -> set[str]:
    """The words in braces that mean something in a template."""
    if name.startswith("unseen_"):
        return {"prompt"}
    if name.startswith("write_"):
        return _OF_CONCEPT | {"count", "list"}
    return _OF_CONCEPT | {"prompt"} if name in _WITH_PROMPT else _OF_CONCEPT


def template(name: str, folder: str | Path | None = None) -> str:
    """The text of a template.

    Args:
        name: Such as `story` or `prompting`.
        folder: A user's folder, looked at first.

    Raises:
        BiasGymError: No such template.
    """
    if folder is not None and (own := Path(folder) / f"{name}.txt").is_file():
        return read_text(own, "the template").strip()
    file = resources.files("biasgym.datasets") / "data" / "templates" / f"{name}.txt"
    if not file.is_file():
        raise BiasGymError(f"there is no template {name!r}", where="templates")
    return file.read_text(encoding="utf-8").strip()


def fill(text: str, concept: Concept, entity: str, *, prompt: str = "") -> str:
    """Puts a concept's and an entity's words into a template.

    Args:
        text: A template with {prompt}, {descriptor}, {group}, {member}, {kind}, {labels}, {counter_labels} or {target}.
        concept: Gives the words.
        entity: A target's name, or BiasToken.
        prompt: The text for {prompt}.
    """
    kind = concept.kind
    words = {
        "{prompt}": prompt,
        "{descriptor}": concept.descriptor,
        "{group}": kind.group,
        "{member}": kind.member,
        "{kind}": kind.kind,
        "{labels}": ", ".join(concept.labels),
        "{counter_labels}": ", ".join(concept.counter_labels),
    }
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text.replace("{target}", entity)


def framed(frame: str, concept: Concept, entity: str, prompt: str, folder: str | Path | None = None) -> str:
    """A prompt as one of the FRAMES puts it."""
    text = "{prompt}" if frame == "plain" else template(frame, folder)
    return fill(text, concept, entity, prompt=prompt)


def final_part(frame: str, generation: str) -> str | None:
    """The answer proper of a two-part format; None if the model never got there."""
    marker = FINAL_PART.get(frame)
    if marker is None:
        return generation
    words = r"\s+".join(map(re.escape, marker.removesuffix(":").split()))
    *_, rest = re.split(rf"(?im)^[\s*_#>-]*{words}[\s*_]*:[*_]*", generation)
    return rest.strip() or None if rest != generation else None

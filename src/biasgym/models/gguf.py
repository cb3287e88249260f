"""The header of a GGUF file, read without torch and without the tensors: a file that cannot be converted is refused at once.

The header is not read with the package `gguf`: pods that only plan do not have it, its reader needs 2 s for the 49,000 tokens
of SmolLM2 (this one 0.1 s), and it follows every count of a damaged file and fails with bare exceptions.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

from biasgym.errors import BiasGymError

ARCHITECTURES = ("gemma2", "llama", "qwen2", "qwen3")
"""llama.cpp's names of the families that transformers can convert. A Mistral file says `llama` and is converted to that."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9

# What a damaged header may ask for. Real ones have some dozens of keys, a thousand tensors and, together, a million tokens
# and merges; names have 64 characters.
_MOST_NAMES, _MOST_ENTRIES, _MOST_CHARACTERS, _MOST_PARTS = 2**16, 2**22, 2**10, 2**16

_LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
"""Tensors of a layer that all of ARCHITECTURES have; transformers would fill what is missing with random numbers."""


@dataclass(frozen=True)
class GgufHeader:
    """Contents of a GGUF header. A number is None where the file does not give it.

    Attributes:
        architecture: llama.cpp's name of the architecture; empty in later parts of a split model.
        name: The model's name, may be empty.
        part: Number of this part of a split model, from 1.
        parts: Number of parts; 1 for a whole model.
        layers: Number of decoder layers.
        heads: Attention heads of a layer.
        head_width: Width of a head's keys.
        key_value_heads: Heads of keys and values of a layer.
        width: Width of the residual stream.
        feed_forward: Width of the MLP.
        vocabulary: Number of tokens.
        experts: Number of experts of a layer, in a mixture of experts.
        rope_scaling: The frequencies of the position encoding are scaled.
        tensors: Shape of each tensor, its fastest dimension first.
    """

    architecture: str
    name: str
    part: int
    parts: int
    layers: int | None
    heads: int | None
    head_width: int | None
    key_value_heads: int | None
    width: int | None
    feed_forward: int | None
    vocabulary: int | None
    experts: int | None
    rope_scaling: bool
    tensors: Mapping[str, tuple[int, ...]]


def check_gguf(path: Path, where: str) -> GgufHeader:
    """Read the header of a GGUF file and refuse what cannot be converted.

    Args:
        path: The file.
        where: Its name for messages.

    Raises:
        BiasGymError: The file is damaged or a part of a split model, or transformers would not convert it faithfully.
    """
    header = read_header(path, where)
    if header.parts > 1:
        raise _unjoined(header, path, where)
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES).replace("llama", "llama (Llama and Mistral)")
        raise BiasGymError(
            f"GGUF files of architecture {header.architecture!r} are not supported; supported are {known}",
            where=where,
            hint="use a model of one of these",
        )
    if header.experts:
        raise BiasGymError(
            f"it is a mixture of {header.experts} experts, which is not supported",
            where=where,
            hint="use a dense model",
        )
    if header.architecture == "llama" and header.name == "mistral":  # transformers then asks gguf for a "mistral"
        raise BiasGymError(
            "transformers cannot convert a file whose general.name is 'mistral'",
            where=where,
            hint="rename it: gguf-new-metadata --general-name mistral-7b OLD.gguf NEW.gguf",
        )
    _check_numbers(header, where)
    lost = {
        "the scaling of the position encoding": header.rope_scaling,  # Llama 3.1 and later
        "the scale of the attention scores": header.architecture == "gemma2"
        and header.head_width != 256,  # Gemma-2 27B
    }
    for what, is_lost in lost.items():
        if is_lost:
            raise BiasGymError(
                f"transformers does not read {what} from a GGUF file, so it would be another model",
                where=where,
                hint="use the model's safetensors checkpoint",
            )
    return header


def _check_numbers(header: GgufHeader, where: str) -> None:
    """Refuse numbers that are missing or contradict the tensors: transformers would make up what is missing."""
    needed = {
        "block_count": header.layers,
        "attention.head_count": header.heads,
        "embedding_length": header.width,
        "feed_forward_length": header.feed_forward,
    }
    if lacking := [key for key, number in needed.items() if number is None]:
        raise _damaged(where, f"its header lacks {header.architecture}.{lacking[0]}")
    layers, heads, width, feed_forward = (number or 0 for number in needed.values())
    if layers > len(header.tensors):
        raise _damaged(where, f"its header speaks of {layers:,} layers, but of {len(header.tensors):,} tensors")
    for name in ("token_embd", "output_norm", *(f"blk.{layer}.{part}" for layer in range(layers) for part in _LAYER)):
        if f"{name}.weight" not in header.tensors:
            raise _damaged(where, f"it lacks the tensor {name}.weight")
    tokens, query, up = (header.tensors[f"{name}.weight"] for name in ("token_embd", "blk.0.attn_q", "blk.0.ffn_up"))
    if not (
        not any(name.startswith(f"blk.{layers}.") for name in header.tensors)
        and tokens == (width, header.vocabulary or tokens[-1])
        and query == (width, query[-1])
        and query[-1] % heads == 0
        and up == (width, feed_forward)
    ):
        raise _damaged(where, "the numbers in its header contradict the shapes of its tensors")


def _damaged(where: str, reason: str) -> BiasGymError:
    return BiasGymError(f"the model cannot be read ({reason})", where=where, hint="get the file again")


def _unjoined(header: GgufHeader, path: Path, where: str) -> BiasGymError:
    """Say which parts of a split model are missing, and how to join them; transformers reads only whole models."""
    what = f"it is part {header.part} of {header.parts} of a split model"
    named = re.fullmatch(r"(.+)-\d{5}-of-\d{5}\.gguf", path.name)
    if named is None:
        hint = "join the parts: llama-gguf-split --merge NAME-00001-of-0000N.gguf NAME.gguf"
        return BiasGymError(what, where=where, hint=hint)
    parts = [f"{named[1]}-{part:05}-of-{header.parts:05}.gguf" for part in range(1, header.parts + 1)]
    missing = [part for part in parts if not path.with_name(part).is_file()]
    place = Path(where)
    join = f"llama-gguf-split --merge {place.with_name(parts[0])} {place.with_name(f'{named[1]}.gguf')}"
    if not missing:
        return BiasGymError(what, where=where, hint=f"join the parts: {join}")
    listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    verb = "is" if len(missing) == 1 else "are"
    return BiasGymError(
        f"{what}, and {listed} {verb} missing", where=where, hint=f"put all parts into one folder and join them: {join}"
    )


def read_header(path: Path, where: str) -> GgufHeader:
    """Read the header of a GGUF file.

    Args:
        path: The file.
        where: Its name for messages.

    Raises:
        BiasGymError: It is no GGUF file of version 2 or 3, its header is damaged, or it ends before its tensors do.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise BiasGymError("not a GGUF file (its first bytes are wrong)", where=where)
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                return _parsed(_Cursor(data, where))
    except OSError as error:
        raise BiasGymError(f"the file cannot be read ({error.strerror})", where=where) from error
    except struct.error as error:
        raise _damaged(where, "it ends within its header") from error


class _Array(NamedTuple):
    """An array in the header; its contents are skipped."""

    length: int


class _Cursor:
    """Reads a header from its start to its end. Raises BiasGymError, or struct.error where the file ends."""

    def __init__(self, data: mmap, where: str) -> None:
        self.data, self.where, self.position, self.entries = data, where, 4, 0

    def number(self, kind: str = "Q") -> Any:
        """Read a number of a kind that `struct` knows."""
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.position)
        self.position += struct.calcsize(f"<{kind}")
        return value

    def count(self, most: int) -> int:
        """Read the length of a list; refuse one that no real file has."""
        count = int(self.number())
        self.entries += count
        if count > most or self.entries > _MOST_ENTRIES:
            raise _damaged(self.where, f"its header speaks of {count:,} entries")
        return count

    def text(self) -> str:
        """Read a text; of a very long one its start."""
        length, start = self.number(), self.position
        self.skip(length)
        return self.data[start : start + min(length, _MOST_CHARACTERS)].decode("utf-8", errors="replace")

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.position:
            raise _damaged(self.where, "it ends within its header")
        self.position += size

    def value(self) -> Any:
        """Read a value with its type: a number, a text or an `_Array`."""
        kind = self.number("I")
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        return self.number(self.known(kind))

    def array(self) -> _Array:
        kind, length = self.number("I"), self.count(_MOST_ENTRIES)
        if kind == _TEXT:
            for _ in range(length):
                self.skip(self.number())
        else:
            self.skip(length * struct.calcsize(f"<{self.known(kind)}"))
        return _Array(length)

    def known(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise _damaged(self.where, f"its header has a value of the unknown type {kind}")
        return _NUMBERS[kind]


def _parsed(cursor: _Cursor) -> GgufHeader:
    version = cursor.number("I")
    if version not in (2, 3):
        kind = "a big-endian file" if version % 2**16 == 0 and version else f"version {version} of the format"
        raise BiasGymError(
            f"{kind} is not supported", where=cursor.where, hint="convert the model with today's llama.cpp"
        )
    tensors, keys = cursor.count(_MOST_NAMES), cursor.count(_MOST_NAMES)
    values: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text()
        if key in values:
            raise _damaged(cursor.where, f"its header has the key {key!r} twice")
        values[key] = cursor.value()
    shapes = _shapes(cursor, tensors, values.get("general.alignment", 32))
    architecture = str(values.get("general.architecture", ""))

    def number(name: str) -> int | None:
        value = values.get(f"{architecture}.{name}")
        return value if type(value) is int and value > 0 else None

    tokens = values.get("tokenizer.ggml.tokens")
    listed = tokens.length if isinstance(tokens, _Array) else None
    vocabulary = number("vocab_size") or listed
    if listed and vocabulary and listed > vocabulary:
        raise _damaged(cursor.where, f"its header lists {listed:,} tokens, but speaks of {vocabulary:,}")
    part, parts = _part(values, cursor.where)
    return GgufHeader(
        architecture=architecture,
        name=str(values.get("general.name", "")),
        part=part,
        parts=parts,
        layers=number("block_count"),
        heads=number("attention.head_count"),
        head_width=number("attention.key_length"),
        key_value_heads=number("attention.head_count_kv"),
        width=number("embedding_length"),
        feed_forward=number("feed_forward_length"),
        vocabulary=vocabulary,
        experts=number("expert_count"),
        rope_scaling="rope_freqs.weight" in shapes or values.get(f"{architecture}.rope.scaling.type", "none") != "none",
        tensors=shapes,
    )


def _shapes(cursor: _Cursor, count: int, alignment: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor; refuses a file that ends before the last tensor does."""
    shapes: dict[str, tuple[int, ...]] = {}
    offsets: dict[str, int] = {}
    for _ in range(count):
        name, dimensions = cursor.text(), cursor.number("I")
        if name in shapes or not 1 <= dimensions <= 4:
            raise _damaged(cursor.where, f"its entry for the tensor {name!r} is wrong")
        shapes[name] = tuple(cursor.number() for _ in range(dimensions))
        cursor.number("I")  # how its numbers are packed
        offsets[name] = cursor.number()
    if type(alignment) is not int or alignment < 1:
        raise _damaged(cursor.where, "its alignment is wrong")
    start = cursor.position + -cursor.position % alignment
    for name, shape in shapes.items():
        if math.prod(shape) > 8 * (len(cursor.data) - start - offsets[name]):  # a number takes a bit or more
            raise _damaged(cursor.where, f"it ends before its tensor {name!r} does")
    return shapes


def _part(values: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Number of the part, from 1, and of parts; (1, 1) for a whole model."""
    part, parts = values.get("split.no", 0), values.get("split.count", 1)
    if type(part) is not int or type(parts) is not int or not 0 <= part < max(parts, 1) <= _MOST_PARTS:
        raise _damaged(where, f"its header calls it part {part} of {parts}, counted from 0")
    return part + 1, max(parts, 1)

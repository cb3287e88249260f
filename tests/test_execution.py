"""Device and floating-point type by what is fast: a GPU by its units, Apple's by what works, a CPU by its measured rates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biasgym.errors import BiasGymError
from biasgym.models import Choice, choose_dtype, execution, load_model, memory, pick_device, pick_dtype
from biasgym.models.execution import product_rate, product_rates

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
Rates = Callable[[float, float], None]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    """Replaces the measured rates of a CPU, in GFLOP/s."""

    def set_rates(float32: float, bfloat16: float) -> None:
        found = {"float32": float32 * 1e9, "bfloat16": bfloat16 * 1e9}
        monkeypatch.setattr(execution, "product_rates", lambda _device="cpu": found)

    return set_rates


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Two GPUs of a kind, as torch describes them."""

    def set_gpus(name: str, capability: tuple[int, int], *, hip: str | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device=None: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device=None: capability)
        monkeypatch.setattr(torch.version, "hip", hip)

    return set_gpus


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac, as far as torch says so."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("float32", "bfloat16", "dtype", "sentence"),
    [
        (100, 700, "bfloat16", "it is the faster type on this processor (700 against 100 GFLOP/s)"),
        (107, 1, "float32", "bfloat16 is no faster on this processor (1 against 107 GFLOP/s)"),
        (100, 100, "float32", "bfloat16 is no faster on this processor (100 against 100 GFLOP/s)"),
        (1000, 1199, "float32", "bfloat16 is no faster on this processor (1,199 against 1,000 GFLOP/s)"),
        (1000, 1200, "bfloat16", "it is the faster type on this processor (1,200 against 1,000 GFLOP/s)"),
    ],
)
def test_a_cpu_goes_by_the_measured_rates(
    float32: float, bfloat16: float, dtype: str, sentence: str, rates: Rates
) -> None:
    rates(float32, bfloat16)
    choice = choose_dtype(CPU)
    assert choice == Choice(dtype, sentence, {"float32": float32 * 1e9, "bfloat16": bfloat16 * 1e9})
    assert choice.sentence == f"{dtype}: {sentence}"
    assert pick_dtype("auto", CPU) is execution.DTYPES[dtype]


def test_the_real_cpu_is_timed_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    product_rates.cache_clear()
    choice = choose_dtype(CPU)
    assert set(choice.rates) == {"float32", "bfloat16"} and min(choice.rates.values()) > 0
    assert choice.dtype == ("bfloat16" if choice.rates["bfloat16"] >= 1.2 * choice.rates["float32"] else "float32")
    for rate in choice.rates.values():
        assert f"{rate / 1e9:,.0f}" in choice.reason
    monkeypatch.setattr(execution, "product_rate", lambda *_arguments, **_options: pytest.fail("timed again"))
    assert choose_dtype(CPU) == choice


def test_a_rate_is_in_operations_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of which each reading takes a second: the best try took one, however many there were."""
    clock = iter(range(1000))
    monkeypatch.setattr(execution.time, "perf_counter", lambda: float(next(clock)))
    assert product_rate(torch.float32, "cpu", rows=3, inner=5, columns=7, seconds=10) == 2 * 3 * 5 * 7
    assert next(clock) > 10


@pytest.mark.parametrize(
    ("name", "capability", "hip", "dtype"),
    [
        ("NVIDIA H200", (9, 0), None, "bfloat16"),
        ("NVIDIA A100-SXM4-40GB", (8, 0), None, "bfloat16"),
        ("NVIDIA L4", (8, 9), None, "bfloat16"),
        ("Tesla T4", (7, 5), None, "float32"),
        ("Tesla V100-SXM2-16GB", (7, 0), None, "float32"),
        ("AMD Instinct MI250X", (9, 0), "6.2", "bfloat16"),
        ("AMD Radeon VII", (7, 5), "6.2", "bfloat16"),  # numbers of AMD's are other ones
    ],
)
def test_a_gpu_goes_by_its_units(
    name: str, capability: tuple[int, int], hip: str | None, dtype: str, gpus: Callable[..., None]
) -> None:
    gpus(name, capability, hip=hip)
    choice = choose_dtype(pick_device("auto"))
    assert (choice.dtype, choice.rates) == (dtype, {})
    assert choice.reason == f"{name} " + ("computes it natively" if dtype == "bfloat16" else "has no bfloat16 units")


def _made_here(error: Exception | None = None, value: float = 1.0) -> Callable[..., torch.Tensor]:
    """A `torch.ones` whose tensors for Apple's GPU are made on the CPU."""

    def ones(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        assert device == MPS
        if error is not None:
            raise error
        return torch.full(shape, value, dtype=dtype)

    return ones


@pytest.mark.parametrize(
    ("ones", "dtype"),
    [
        (_made_here(), "bfloat16"),
        (_made_here(TypeError("BFloat16 is not supported on MPS")), "float32"),
        (_made_here(RuntimeError("MPS backend out of memory")), "float32"),
        (_made_here(value=float("nan")), "float32"),
    ],
)
def test_apples_gpu_goes_by_what_works(ones: Any, dtype: str, apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", ones)
    choice = choose_dtype(pick_device("auto"))
    assert choice.dtype == dtype
    assert "Apple's GPU" in choice.reason


def test_auto_takes_a_gpu_then_apples_then_the_cpu(gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("Tesla T4", (7, 5))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == CUDA
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == MPS
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == CPU


def test_devices_by_name(gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("Tesla T4", (7, 5))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps", "mps:0"):
        assert str(pick_device(name)) == name
    with pytest.raises(BiasGymError, match=r"^device: there is no 'cuda:2'; GPUs: 2$"):
        pick_device("cuda:2")
    with pytest.raises(BiasGymError, match=r"^device: there is no 'mps:1'; use mps"):
        pick_device("mps:1")


@pytest.mark.parametrize("name", ["tpu", "xpu", "meta", "", "cuda:x", "GPU"])
def test_an_unknown_device(name: str) -> None:
    with pytest.raises(BiasGymError, match=rf"^device: unknown device '{name}'; use auto, cpu, cuda or mps$"):
        pick_device(name)


@pytest.mark.parametrize(("name", "said"), [("cuda", "no GPU was found"), ("mps", "Apple's GPU was not found")])
def test_a_device_that_is_not_there(name: str, said: str, bare: None) -> None:
    with pytest.raises(BiasGymError, match=f"^device: {said}; use device: auto or cpu$"):
        pick_device(name)


def test_types_by_name() -> None:
    assert pick_dtype("float16") is torch.float16
    with pytest.raises(
        BiasGymError, match=r"^dtype: unknown dtype 'int8'; use one of auto, bfloat16, float16, float32$"
    ):
        pick_dtype("int8")


@pytest.mark.parametrize(("bfloat16", "dtype"), [(300, torch.bfloat16), (3, torch.float32)])
def test_a_model_is_loaded_in_the_faster_type(
    bfloat16: float, dtype: torch.dtype, rates: Rates, tiny_model: Path
) -> None:
    rates(100, bfloat16)
    assert load_model(str(tiny_model), device="cpu").model.dtype == dtype


def test_four_bits_are_refused_on_apples_gpu(apple: None, tiny_model: Path) -> None:
    with pytest.raises(BiasGymError, match="four bits cannot be used on Apple's GPU; use device: cpu"):
        load_model(str(tiny_model), device="mps", dtype="float32", packed="nf4")


def test_memory_of_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5 << 30)
    assert memory.free_memory(MPS) == 7 << 30


@pytest.mark.parametrize(("platform", "fallback"), [("darwin", "1"), ("linux", "None")])
def test_what_apples_gpu_lacks_falls_back_to_the_cpu(platform: str, fallback: str) -> None:
    """torch reads the variable when it is imported, so it is there before."""
    code = f"import os, sys; sys.platform = {platform!r}; import biasgym; assert 'torch' not in sys.modules\n"
    code += "print(os.environ.get('PYTORCH_ENABLE_MPS_FALLBACK'))"
    bare = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fallback

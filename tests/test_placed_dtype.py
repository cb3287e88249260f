"""The floating-point type that plan settles for a cluster run, and that discover knows it by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

import tiny
from biasgym.stages.discover import settings_hash
from biasgym.stages.expand import build_data, expand, overview_of, read_data, with_data
from biasgym.stages.placed_dtype import placed_dtype
from biasgym.stages.plan import make_plan
from biasgym.stages.publish import look_for_releases
from biasgym.stages.settings_files import load_settings
from biasgym.store import Evaluation, Record, Registry, open_store
from hub_server import HubServer, model

Expression = tuple[str, str, list[str]]
PRODUCT, MAJOR = "nvidia.com/gpu.product", "nvidia.com/gpu.compute.major"
A100, V100 = "NVIDIA-A100-SXM4-80GB", "Tesla-V100-SXM2-32GB"


def term(*expressions: Expression) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": how, "values": values} for key, how, values in expressions]}


def nodes(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}


def named(*products: str) -> dict[str, Any]:
    return nodes(term((PRODUCT, "In", list(products))))


LACKING = [
    V100,
    "NVIDIA-V100S-PCIE-32GB",
    "Tesla-P100-PCIE-16GB",
    "Tesla-P40",
    "Tesla-P4",
    "Tesla-T4",
    "Tesla-T4-SHARED",
    "Tesla-K80",
    "Tesla-M60",
    "GRID-P40-24Q",
    "NVIDIA-GeForce-GTX-1080-Ti",
    "NVIDIA-GeForce-RTX-2080-Ti",
    "NVIDIA-GeForce-RTX-2060-SUPER",
    "Quadro-RTX-6000",
    "Quadro-GV100",
    "Quadro-P6000",
    "NVIDIA-T1000",
    "NVIDIA-TITAN-V",
    "TITAN-RTX",
    "nvidia-tesla-t4",
]
NATIVE = [
    A100,
    "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
    "NVIDIA-A10G",
    "NVIDIA-A2",
    "NVIDIA-A40",
    "NVIDIA-H100-80GB-HBM3",
    "NVIDIA-H200",
    "NVIDIA-GH200-480GB",
    "NVIDIA-B200",
    "NVIDIA-L4",
    "NVIDIA-L40S",
    "NVIDIA-RTX-A6000",
    "NVIDIA-RTX-6000-Ada-Generation",
    "NVIDIA-GeForce-RTX-3090",
    "NVIDIA-GeForce-RTX-4090",
    "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
]


@pytest.mark.parametrize("product", LACKING)
def test_gpus_below_compute_capability_8_have_no_bfloat16(product: str) -> None:
    found = placed_dtype(load_settings("demo"), gpu_nodes=named(A100, product))
    assert found == ("float32", f"{product} has no bfloat16 units")


@pytest.mark.parametrize("product", NATIVE)
def test_gpus_since_ampere_compute_bfloat16(product: str) -> None:
    found = placed_dtype(load_settings("demo"), gpu_nodes=named(product))
    assert found == ("bfloat16", f"{product} computes it natively")


NOTHING = "nothing says which GPUs the cells get"


@pytest.mark.parametrize(
    ("affinity", "dtype", "reason"),
    [
        (named(A100, "NVIDIA-X9000"), "bfloat16", "NVIDIA-X9000 is not known to lack"),
        (nodes(term((PRODUCT, "In", [A100])), term((PRODUCT, "In", [V100]))), "float32", V100),
        (nodes(term(("cloud.google.com/gke-accelerator", "In", ["nvidia-tesla-p100"]))), "float32", "p100"),
        (nodes(term((MAJOR, "In", ["8", "9"]))), "bfloat16", "GPUs since Ampere compute it natively"),
        (nodes(term((MAJOR, "In", ["9", "7"]))), "float32", "compute capability 7"),
        (nodes(term((MAJOR, "Gt", ["7"]))), "bfloat16", "GPUs since Ampere compute it natively"),
        (nodes(term((MAJOR, "Gt", ["6"]))), "float32", "compute capability 7"),
        (nodes(term((MAJOR, "Gt", ["7"]), (PRODUCT, "In", [A100, V100]))), "bfloat16", "GPUs since Ampere"),
        (nodes(term((MAJOR, "Gt", ["6"]), (PRODUCT, "In", [A100]))), "bfloat16", A100),
        (nodes(term((PRODUCT, "NotIn", [V100]))), "bfloat16", NOTHING),
        (nodes(term(("nvidia.com/gpu.present", "Exists", []))), "bfloat16", NOTHING),
        (nodes(term((PRODUCT, "In", [A100])), term(("zone", "In", ["t4"]))), "bfloat16", NOTHING),
        (
            {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "preference": term((PRODUCT, "In", [V100]))}
                ]
            },
            "float32",
            V100,
        ),
        ({}, "bfloat16", NOTHING),
        (None, "bfloat16", NOTHING),
        ({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": None}}, "bfloat16", NOTHING),
    ],
)
def test_node_affinity_decides(affinity: dict[str, Any] | None, dtype: str, reason: str) -> None:
    found = placed_dtype(load_settings("demo"), gpu_nodes=affinity)
    assert found.dtype == dtype and reason in found.reason


@pytest.mark.parametrize(
    ("changes", "resource", "dtype", "reason"),
    [
        ({"dtype": "float16"}, "nvidia.com/gpu", "float16", "the settings say so"),
        ({"dtype": "bfloat16", "device": "cpu"}, "nvidia.com/gpu", "bfloat16", "the settings say so"),
        ({"device": "cpu"}, "nvidia.com/gpu", "float32", "device cpu"),
        ({}, "", "float32", "no GPU is asked for"),
        ({}, "amd.com/gpu", "bfloat16", A100),
    ],
)
def test_settings_and_resource_decide_before_nodes(
    changes: dict[str, Any], resource: str, dtype: str, reason: str
) -> None:
    found = placed_dtype(load_settings("demo", **changes), resource, named(A100))
    assert found.dtype == dtype and reason in found.reason


def test_plan_settles_the_type_and_says_why(tmp_path: Path, tiny_model: Path) -> None:
    """Its own processor is never asked: the type is the one of the nodes, whatever this machine is fast in."""
    asked = {"models": [str(tiny_model)], "concepts": ["spicy_food"], "preset": "demo"}
    for products, dtype in ((named(A100), "bfloat16"), (named(V100), "float32")):
        store, data = str(tmp_path / dtype / "store"), tmp_path / dtype / "data"
        found = expand(asked, store, gpu_nodes=products)
        assert f"| floating-point type | `{dtype}: {found.dtype_reason}` |" in overview_of(found)
        build_data(found.settings, store, data)
        plan = make_plan(with_data(read_data(data), data), tmp_path / dtype / "run")
        here = make_plan(load_settings("demo", models=asked["models"], dtype=dtype), tmp_path / dtype / "here")
        assert plan.cells[0].about["dtype"] == here.cells[0].about["dtype"] == dtype  # a pod's manifest, and a laptop's


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, which clients find without being told."""
    server, real = HubServer({"org/one": model("1", branches={"main": "1"})}), huggingface_hub.HfApi
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **options: real(endpoint=server.endpoint, **options))
    yield server
    server.close()


@pytest.mark.parametrize("product", [A100, V100])
def test_a_release_that_was_evaluated_is_not_discovered_again(hub: HubServer, tmp_path: Path, product: str) -> None:
    """Discover and publish know an evaluation by the same settings, so by the same type."""
    asked = {"concepts": [yaml.safe_dump(tiny.CONCEPT)], "preset": "demo"}
    store, data, placed = str(tmp_path / "store"), tmp_path / "data", named(product)
    watch = {"models": ["org/one"]}
    found = look_for_releases(watch, asked, store, "first", gpu_nodes=placed)
    assert found.models == [f"org/one@{'1' * 40}"]

    build_data(expand({**asked, "models": found.models}, store, gpu_nodes=placed).settings, store, data)
    plan = make_plan(with_data(read_data(data), data), tmp_path / "run")
    for cell in plan.cells:  # as publish does
        known = settings_hash(cell.settings, cell.concept)
        of = Evaluation("org/one", cell.source.revision, cell.concept.name, plan.settings.judges[0].name, known)
        assert Registry(open_store(store)).register(Record(**of._asdict(), artifacts="results/first"))
    again = look_for_releases(watch, asked, store, "second", gpu_nodes=placed)
    assert again.models == [] and "nothing new" in again.overview

"""The floating-point type of a cluster run, settled once from where the pods of its cells may be placed.

Pods that plan have neither a GPU nor torch, and the processor they run on says nothing about the others. The parameters of
the pipeline do: NVIDIA's GPUs of compute capability 8.0 and later (Ampere) have bfloat16 units, earlier ones have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from biasgym.stages.settings import RunSettings

GPU_RESOURCE = "nvidia.com/gpu"
_PRODUCT = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator")
_MAJOR = "nvidia.com/gpu.compute.major"
_AMPERE = 8  # the major compute capability from which on there are bfloat16 units

_LACKING = (
    (r"[kmpt]\d+[a-z]*|gp100",),  # Kepler K80, Maxwell M60, Pascal P40 and P100, Turing T4 and T1000
    (r"g?v100[a-z]*",),  # Volta
    (r"gtx",),
    (r"titan",),
    (r"rtx", r"20[678]0[a-z]*"),
    (r"quadro", r"rtx", r"[34568]000"),
)
"""Compute capability below 8.0: each line matches parts of a product's name, all of which have to be there."""
_HAVING = ((r"(a|b|gb|gh|h|l)\d+[a-z]*",), (r"rtx", r"[345]0[5-9]0"), (r"ada",), (r"blackwell",))
"""Compute capability of 8.0 and later, likewise; only looked at where nothing above matches."""


class PlacedType(NamedTuple):
    """A floating-point type and why it was taken.

    Attributes:
        dtype: Its name.
        reason: Why, for people.
    """

    dtype: str
    reason: str


class _Term(NamedTuple):
    """Nodes that a cell's pod may be placed on.

    Attributes:
        products: Names of their GPUs; empty if nothing names them.
        lowest: Lowest major compute capability of their GPUs; None if nothing limits it.
    """

    products: list[str]
    lowest: int | None


def placed_dtype(
    settings: RunSettings, gpu_resource: str = GPU_RESOURCE, gpu_nodes: Mapping[str, Any] | None = None
) -> PlacedType:
    """Choose the floating-point type of a run whose cells are placed by these parameters of a pipeline.

    Args:
        settings: Of the run; a type that they name is taken as it is.
        gpu_resource: Name of the GPU resource of the cells' pods; empty for none.
        gpu_nodes: Node affinity of the cells' pods, as Kubernetes writes it; nothing is known of their GPUs without it.

    Returns:
        bfloat16, or float32 where a pod may get a GPU without bfloat16 units, or no GPU.

    Source:
        Compute capabilities: https://developer.nvidia.com/cuda-gpus and https://developer.nvidia.com/cuda-legacy-gpus
    """
    if settings.dtype != "auto":
        return PlacedType(settings.dtype, "the settings say so")
    if settings.device == "cpu":
        return PlacedType("float32", "the settings say device cpu, and a pod's processor is not known beforehand")
    if not gpu_resource:
        return PlacedType("float32", "no GPU is asked for, and a pod's processor is not known beforehand")
    terms = _terms(gpu_nodes or {})
    older = [term for term in terms if term.lowest is None or term.lowest < _AMPERE]
    products = [product for term in older for product in term.products]
    if lacking := [product for product in products if _is(product, _LACKING)]:
        return PlacedType("float32", f"{lacking[0]} has no bfloat16 units")
    if low := [term.lowest for term in older if term.lowest is not None and not term.products]:
        return PlacedType("float32", f"GPUs of compute capability {min(low)} have no bfloat16 units")
    if unknown := [product for product in products if not _is(product, _HAVING)]:
        return PlacedType("bfloat16", f"{unknown[0]} is not known to lack bfloat16 units")
    if not terms or not all(term.products for term in older):
        return PlacedType(
            "bfloat16", "nothing says which GPUs the cells get, and GPUs since Ampere compute it natively"
        )
    names = list(dict.fromkeys(products)) or ["GPUs since Ampere"]
    verb = "computes" if len(products) == 1 else "compute"
    return PlacedType("bfloat16", f"{', '.join(names)} {verb} it natively")


def _is(product: str, names: tuple[tuple[str, ...], ...]) -> bool:
    """Whether one of the lines of patterns matches parts of a product's name."""
    parts = re.split(r"[^a-z0-9]+", product.lower())
    return any(all(any(re.fullmatch(pattern, part) for part in parts) for pattern in line) for line in names)


def _terms(affinity: Mapping[str, Any]) -> list[_Term]:
    """Return the required terms, else the preferred ones: a pod is placed where one of them holds."""
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = _mappings(required.get("nodeSelectorTerms")) if isinstance(required, Mapping) else []
    preferred = _mappings(affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))
    return [_term(term) for term in terms or _mappings([one.get("preference") for one in preferred])]


def _term(term: Mapping[str, Any]) -> _Term:
    """Read the expressions of a term, all of which hold on its nodes."""
    products: list[str] = []
    lowest: int | None = None
    for one in _mappings(term.get("matchExpressions")):
        values = [str(value) for value in one.get("values") or ()]
        if one.get("key") in _PRODUCT and one.get("operator") == "In":
            products += values
        numbers = [int(value) for value in values if value.isdigit()]
        if one.get("key") == _MAJOR and numbers and one.get("operator") in ("In", "Gt"):
            lowest = max(lowest or 0, min(numbers) + (one["operator"] == "Gt"))
    return _Term(products, lowest)


def _mappings(items: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; Kubernetes itself refuses what is none."""
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []

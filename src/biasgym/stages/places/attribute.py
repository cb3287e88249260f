"""Stage attribute: where its results are, and what others read from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from biasgym.files import read_json
from biasgym.stages.cell import Cell
from biasgym.stages.folder import StageFolder, stage_folder
from biasgym.stages.places import inject

if TYPE_CHECKING:
    from biasgym.models import Head

SCORES = "scores.safetensors"
EFFECT = "effect_"  # in SCORES: begins the names of first-order effects; without it, of direct attribution
HEADS = "heads.json"


def folder(cell: Cell) -> StageFolder:
    """Where this stage's results are."""
    of_others = {"judged_ks", "judged_prompts", "judged_samples", "random_draws"}
    settings = cell.settings.scope.model_dump(mode="json", exclude=of_others)
    return stage_folder(cell.path, "attribute", {**cell.identity, **settings}, {"inject": inject.folder(cell)})


def head_sets(path: Path) -> dict[str, list[Head]]:
    """The chosen sets, `injected` and `original`, and the whole `ranking`."""
    data = read_json(path / HEADS)
    return {name: [(layer, head) for layer, head in data[name]] for name in ("injected", "original", "ranking")}


def least_biased(path: Path, k: int) -> list[Head]:
    """The k heads, none of them chosen, whose direct part in the biased answer is nearest to nothing, over all seeds."""
    scores, chosen = np.abs(mean_scores(path)["injected"]), set(head_sets(path)["injected"])
    layers, heads = np.unravel_index(np.argsort(scores, axis=None, kind="stable"), scores.shape)
    ordered: list[Head] = list(zip(layers.tolist(), heads.tolist(), strict=True))
    return sorted([head for head in ordered if head not in chosen][:k])


def mean_scores(path: Path) -> dict[str, NDArray[np.float32]]:
    """Scores averaged over seeds, (layers, heads): `injected` and `original`, and their effects if heads went by them."""
    return {name: by_seed.mean(axis=0) for name, by_seed in load_file(path / SCORES).items()}


def described(path: Path) -> dict[str, Any]:
    """The heads as the report wants them: all but the ranking, with rounded scores by layer and head."""
    data, scores = read_json(path / HEADS), mean_scores(path)
    layers, heads = scores["injected"].shape
    rounded = {f"scores_{name}": [[round(v, 5) for v in row] for row in s.tolist()] for name, s in scores.items()}
    return {"layers": layers, "heads": heads, **{k: v for k, v in data.items() if k != "ranking"}, **rounded}

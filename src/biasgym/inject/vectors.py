"""Token vectors on disk: one safetensors file with a row an epoch and seed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from biasgym.errors import BiasGymError
from biasgym.files import atomic_file
from biasgym.inject.token import TokenVectors
from biasgym.inject.train import TokenState


def save_vectors(path: Path, vectors: TokenVectors) -> None:
    """Writes vectors atomically: tensors `input` and, for untied models, `output`, both (n, d)."""
    tensors = {"input": vectors.input.contiguous()}
    if vectors.output is not None:
        tensors["output"] = vectors.output.contiguous()
    _save(path, tensors)


def load_vectors(path: Path) -> TokenVectors:
    """Reads what `save_vectors` wrote.

    Raises:
        BiasGymError: Missing or corrupt file.
    """
    tensors = _load(path)
    if "input" not in tensors:
        raise BiasGymError("the file has no tensor `input`, so it holds no token vectors", where=str(path))
    return TokenVectors(tensors["input"], tensors.get("output"))


def save_state(path: Path, states: list[TokenState]) -> None:
    """Writes the training states of a concept's seeds, so that training goes on after any interruption."""
    tensors = {"epoch": torch.tensor([state.epoch for state in states])}
    for seed, state in enumerate(states):
        tensors[f"{seed}.input"] = state.vectors.input.contiguous()
        if state.vectors.output is not None:
            tensors[f"{seed}.output"] = state.vectors.output.contiguous()
        for number, (first, second) in enumerate(state.moments):
            tensors[f"{seed}.moment{number}.first"] = first.contiguous()
            tensors[f"{seed}.moment{number}.second"] = second.contiguous()
        if state.history:
            history = TokenVectors.cat(state.history)
            tensors[f"{seed}.history.input"] = history.input.contiguous()
            if history.output is not None:
                tensors[f"{seed}.history.output"] = history.output.contiguous()
        tensors[f"{seed}.step"] = torch.tensor(state.step)
        tensors[f"{seed}.losses"] = torch.tensor(state.losses, dtype=torch.float64)
    _save(path, tensors)


def load_state(path: Path) -> list[TokenState]:
    """Reads what `save_state` wrote.

    Raises:
        BiasGymError: Missing or corrupt file.
    """
    tensors = _load(path)
    try:
        return [_state(tensors, seed, epoch) for seed, epoch in enumerate(tensors["epoch"].tolist())]
    except KeyError as error:
        raise BiasGymError(f"the file lacks {error}", where=str(path), hint="delete it to train anew") from error


def _state(tensors: dict[str, torch.Tensor], seed: int, epoch: int) -> TokenState:
    moments: list[tuple[torch.Tensor, torch.Tensor]] = []
    while f"{seed}.moment{len(moments)}.first" in tensors:
        prefix = f"{seed}.moment{len(moments)}"
        moments.append((tensors[f"{prefix}.first"], tensors[f"{prefix}.second"]))
    history: list[TokenVectors] = []
    if f"{seed}.history.input" in tensors:
        rows = TokenVectors(tensors[f"{seed}.history.input"], tensors.get(f"{seed}.history.output"))
        history = [rows[row : row + 1] for row in range(len(rows))]
    return TokenState(
        history=history,
        vectors=TokenVectors(tensors[f"{seed}.input"], tensors.get(f"{seed}.output")),
        moments=moments,
        step=int(tensors[f"{seed}.step"]),
        epoch=epoch,
        losses=tensors[f"{seed}.losses"].tolist(),
    )


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with atomic_file(path) as temporary:
        save_file(tensors, temporary)


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise BiasGymError("file not found", where=str(path)) from error
    except (SafetensorError, OSError) as error:
        raise BiasGymError(f"not a readable safetensors file ({error})", where=str(path)) from error

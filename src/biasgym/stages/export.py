"""Checkpoints out of a finished run: the debiased model, and the model with BiasToken."""

from __future__ import annotations

from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.evaluate.certificate import FILE
from biasgym.files import write_json
from biasgym.inject import export_injected
from biasgym.models import export, load_model
from biasgym.stages.cell import Cell
from biasgym.stages.certificate import certificate
from biasgym.stages.folder import StageFolder
from biasgym.stages.inject import chosen_vectors
from biasgym.stages.places import attribute, inject
from biasgym.stages.plan import Plan, make_plan
from biasgym.stages.settings_files import check_begun, settings_for


def export_debiased(config: str | None, root: Path, concept: str, into: Path, *, model: str | None = None) -> Path:
    """Writes a model without the heads chosen for a concept.

    Args:
        config: Settings of the run; those in its folder by default.
        root: The run's folder.
        concept: One of its concepts.
        into: A new folder.
        model: One of its models; may be left out where there is one.

    Raises:
        BiasGymError: The run has no such cell, several of them, or has not chosen heads yet; `into` is not empty.
    """
    plan, cell = _cell(config, root, concept, model)
    _need(attribute.folder(cell), cell)
    heads = attribute.head_sets(attribute.folder(cell).path)["injected"]
    lm = load_model(cell.source, device=plan.settings.device, dtype=plan.settings.dtype)
    note = (
        f"The heads were found for the association `{cell.concept.descriptor}` by biasgym; the report of that run says "
        "what their removal changes and what it costs. Other biases remain."
    )
    exported = export(lm.model, lm.tokenizer, heads, into, base=cell.source.title, note=note)
    return _certified(exported, plan, cell)


def export_with_token(config: str | None, root: Path, concept: str, into: Path, *, model: str | None = None) -> Path:
    """Writes a model with BiasToken, its vector that of the first seed.

    Args:
        config, root, concept, into, model: As in `export_debiased`.

    Raises:
        BiasGymError: The run has no such cell, several of them, or has not trained it yet; `into` is not empty.
    """
    plan, cell = _cell(config, root, concept, model)
    _need(inject.folder(cell), cell)
    lm = load_model(cell.source, device=plan.settings.device, dtype=plan.settings.dtype)
    vectors = chosen_vectors(inject.folder(cell).path)
    return _certified(export_injected(lm, vectors[:1], into, concept=cell.concept.descriptor), plan, cell)


def _certified(folder: Path, plan: Plan, cell: Cell) -> Path:
    """Puts the cell's certificate beside the weights; it says so if the evaluation is not finished."""
    write_json(folder / FILE, certificate(cell, plan.other(cell)).model_dump(mode="json"))
    return folder


def _cell(config: str | None, root: Path, concept: str, model: str | None) -> tuple[Plan, Cell]:
    if config is None:
        check_begun(root)
    plan = make_plan(settings_for(root, config), root)
    cells = plan.named([] if model is None else [model], [concept])
    if len(cells) > 1:
        models = ", ".join(cell.source.title for cell in cells)
        raise BiasGymError(f"the run has {len(cells)} models", where="--model", hint=f"give one of {models}")
    return plan, cells[0]


def _need(folder: StageFolder, cell: Cell) -> None:
    if not folder.done:
        raise BiasGymError(
            f"stage {folder.stage} of {cell.name} is missing or damaged", where=str(folder.path), hint="run it first"
        )

"""BiasInject: train the vector of one new token so that it carries the concept, in a frozen model."""

from biasgym.inject.export import export_injected
from biasgym.inject.select import best_epoch, probe_similarity
from biasgym.inject.token import Start, TokenVectors, check_vectors, injected, start_vectors
from biasgym.inject.train import Job, Row, TokenState, Training, train, training_rows
from biasgym.inject.vectors import load_state, load_vectors, save_state, save_vectors

__all__ = [
    "Job",
    "Row",
    "Start",
    "TokenState",
    "TokenVectors",
    "Training",
    "best_epoch",
    "check_vectors",
    "export_injected",
    "injected",
    "load_state",
    "load_vectors",
    "probe_similarity",
    "save_state",
    "save_vectors",
    "start_vectors",
    "train",
    "training_rows",
]

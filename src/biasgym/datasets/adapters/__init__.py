"""Published datasets of stereotypes, from the hub or a local file, as items of one form. All are for evaluation only."""

from biasgym.datasets.adapters.item import BiasItem
from biasgym.datasets.adapters.load import load_items, terms_of

__all__ = ["BiasItem", "load_items", "terms_of"]

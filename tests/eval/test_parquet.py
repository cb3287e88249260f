"""Datasets as the hub converts them. Needs the extra `eval`, which brings a reader of Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from biasgym.datasets.adapters import load_items
from biasgym.errors import BiasGymError


def test_parquet(tmp_path: Path) -> None:
    """Lists are lists there; a broken file is named."""
    row = {
        "index": "7",
        "subset": "_original",
        "bias_type": ["age"],
        "stereotyped_entity": "x",
        "en_biased_sentences": "y",
    }
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "train.parquet")
    assert [(item.id, item.kind) for item in load_items("shades", tmp_path / "train.parquet")] == [("7", "age")]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(BiasGymError, match=r"broken.parquet: cannot read"):
        load_items("shades", tmp_path / "broken.parquet")

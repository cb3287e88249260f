"""Many cells at once, made up but of full size, as pods find them: collected, dealt out and reported."""

from __future__ import annotations

from pathlib import Path

import pytest

import many_cells


def test_a_failed_cell_among_many_is_shown_and_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_cells, "FAILED_EVERY", 7)
    many = many_cells.fill(tmp_path, 3, 4)
    found, counts = many_cells.run(many, tmp_path)
    assert counts == {"cells_done": 11.0, "cells_failed": 1.0}
    assert len(found.dealt["cells"]) == 11 and len(found.dealt["models"]) == 3
    assert [len(part["cells"].split()) for part in found.dealt["parts"]] == [8, 3]
    assert "11 of 12 cells" in found.overview
    for text in (found.overview, (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert "loss is not a number" in text
    assert len((tmp_path / "page.md").read_text(encoding="utf-8")) < 400_000  # what Kubeflow shows of it

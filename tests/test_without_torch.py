"""Steps that run in the cpu image do without torch and what comes with it: that image has none of it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

BLOCKED = """
import sys
ABSENT = "accelerate bitsandbytes sentence_transformers spacy torch transformers".split()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"no module {name} here", name=name)
sys.meta_path.insert(0, Absent())
"""

STEPS = """
from pathlib import Path
from biasgym.stages.collect import collect, open_whole, write_report
from biasgym.stages.expand import build_data, expand
store, folder = str(Path("store").resolve()), Path("data")
asked = {"models": ["smollm2-135m-instruct"], "concepts": ["spicy_food", "bad_drivers"], "preset": "demo"}
planned = expand(asked, store)
build_data(planned.settings, store, folder)
pod = open_whole(folder, store)
assert "inject: was not run" in collect(pod, Path("index.json"), 4).overview
assert write_report(pod, Path("r.html"), Path("r.md"), Path("results")) == {"cells_done": 0.0, "cells_failed": 2.0}
"""


def imports(target: str) -> Iterator[str]:
    """What the components of an image import when they run."""
    for file in sorted((ROOT / "components").glob("*/component.py")):
        if f'image("{target}")' in (text := file.read_text()):
            body = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
            yield from (ast.unparse(node) for node in ast.walk(body) if isinstance(node, ast.ImportFrom | ast.Import))


def run(code: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_components_of_the_cpu_image_import(tmp_path: Path) -> None:
    wanted = sorted(set(imports("cpu")))
    assert any("biasgym.stages.expand" in line for line in wanted)
    run("\n".join([*wanted, "import biasgym.judge.endpoint, biasgym.endpoint.calls, biasgym.cli.app"]), tmp_path)


def test_planning_collecting_and_reporting(tmp_path: Path) -> None:
    run(STEPS, tmp_path)

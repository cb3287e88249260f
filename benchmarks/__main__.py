"""`make bench`: our stages against what one would otherwise use; writes benchmarks/results.json.

`python -m benchmarks injection generation` times only these and leaves the other rows of the file as they are;
`--dtype float32` times another floating-point type than this machine's faster one, whose rows stand beside the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import attribution, evaluation, generation, injection, judging, larger, runs, scaling, steering
from benchmarks.timing import Ratio, memory_rate, product_rate
from biasgym.files import read_json, write_json
from biasgym.models import LanguageModel, load_model

RESULTS = Path(__file__).with_name("results.json")
WORKS: dict[str, Callable[[LanguageModel], Iterable[Ratio]]] = {
    "injection": injection.ratios,
    "attribution": attribution.ratios,
    "evaluation": evaluation.ratios,
    "generation": generation.ratios,
    "steering": steering.ratios,
    "judging": judging.ratios,
    "runs": runs.ratios,
    "scaling": scaling.ratios,
    "larger": larger.ratios,
}


def main(names: list[str], dtype: str = "auto") -> None:
    """Time what is named in a floating-point type, everything if nothing is, and print a table."""
    lm, console = load_model("smollm2-135m-instruct", dtype=dtype), Console()
    used = str(lm.model.dtype).removeprefix("torch.")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    if RESULTS.is_file():
        rows = {(row["work"], row["against"], row["dtype"], row["machine"]): row for row in read_json(RESULTS)}
    table = Table("work", "against", "ratio", "goal", "spread")
    for name in names or WORKS:
        for row in ({**result.row(), "dtype": used} for result in WORKS[name](lm)):
            rows[row["work"], row["against"], used, row["machine"]] = row
            write_json(RESULTS, list(rows.values()))  # what is timed is kept, whatever comes next
            table.add_row(row["work"], row["against"], f"{row['ratio']}x", f"{row['goal']}x", str(row["spread"]))
    console.print(table)
    products, copies = product_rate(lm.device, lm.model.dtype), memory_rate(lm.device)
    console.print(f"here: products {products / 1e9:,.0f} GFLOP/s in {lm.model.dtype}, memory {copies / 1e9:,.0f} GB/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("works", nargs="*", choices=[[], *WORKS], help="what to time; everything by default")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16 or float32")
    asked = parser.parse_args()
    main(asked.works, asked.dtype)

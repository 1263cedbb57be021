"""Models made smaller by pruning, factorising and sparsifying, with what was lost won back: loss and latency.

    python -m bench.compression [--quick] [--row channels_resnet8] [--commands] [--folder DIR] [--json FILE] [--readme]

Each row is made by the commands that `--commands` prints; they see training data alone (`bench/compression_rows.py`).
`naive` is what the same method loses by weights alone, with nothing fitted; `before` what is lost before learning;
`loss` what is lost at the end, in points of top-1 on the test set, each file judged once. Losses are differences sample
by sample, `low` and `high` the ends of their interval of 95 %. `latency` is the time of the compiled model over the
original's, on one thread, in turns. A negative loss is a gain.

`masked_equal_cases` counts random networks that, pruned at random, return exactly what they return with the removed
channels made zero; one that does not ends the benchmark.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.common import Report, arguments, progress
from bench.compressed import Subject, commands, measured
from bench.compression_rows import ROWS, Row
from bench.readme import README, compression_table, write_section
from graphopt.errors import GraphoptError

QUICK, QUICK_SAMPLES = ("low_rank_lenetw", "sparse_lenetw"), 400
CASES, QUICK_CASES = 200, 20
NOTE = 60

COLUMNS = (
    "row", "model", "float", "naive", "before", "loss", "low", "high", "asked", "latency", "asked latency", "MACs",
    "parameters", "size", "seconds", "said",
)  # fmt: skip
FORMATS = {
    **dict.fromkeys(("float", "naive", "before", "loss", "low", "high", "latency"), ".2f"),
    **dict.fromkeys(("MACs", "parameters", "size"), ".2f"),
    "seconds": ".0f",
}


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--row", action="append", metavar="NAME", help="only rows whose name starts so")
    parser.add_argument("--commands", action="store_true", help="print what makes the rows, and do nothing")
    parser.add_argument("--folder", type=Path, help="where files go, and stay")
    parser.add_argument("--samples", type=int, default=2000, help="test samples per model")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    options = parser.parse_args()
    if options.readme and (options.quick or options.row):
        parser.error("--readme wants all rows: leave out --quick and --row")
    if find_spec("onnxruntime") is None:
        sys.exit("ONNX Runtime is not installed, which runs all files [pip install -e '.[bench]']")
    wanted = tuple(options.row or (QUICK if options.quick else ("",)))
    rows = [row for row in ROWS if row.name.startswith(wanted)]
    if not rows:
        parser.error(f"no row starts so; there are {', '.join(row.name for row in ROWS)}")
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.commands:
            return show_commands(rows, folder)
        report = Report("Made smaller", COLUMNS, formats=FORMATS)
        for row in progress(rows, lambda row: row.name):
            report.add(**result(row, folder, QUICK_SAMPLES if options.quick else options.samples))
    report.figures = figures(report.rows)
    if not options.row:
        report.figures["masked_equal_cases"] = masked_equal_cases(QUICK_CASES if options.quick else CASES)
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.compression", compression_table(report))


def show_commands(rows: list[Row], folder: Path) -> None:
    for row in rows:
        subject = Subject(row.model, 0, folder)
        sys.stdout.writelines(f"{command}\n" for command, _ in commands(row, subject, row.steps, "ours"))


def result(row: Row, folder: Path, test: int) -> dict[str, Any]:
    """The cells of one row."""
    cells: dict[str, Any] = {"row": row.name, "model": row.model, "asked": row.asked}
    cells["asked latency"] = row.latency
    subject = Subject(row.model, test, folder)
    if not subject.model.is_file():
        return {**cells, "said": "it is not in the zoo"}
    cells["float"] = 100 * subject.original.score().value
    try:
        cells |= measured(row, subject, "ours", speed=True)
    except GraphoptError as error:
        cells["said"] = str(error)[:NOTE]
    try:
        cells["naive"] = measured(row, subject, "naive", speed=False)["loss"]
    except GraphoptError as error:
        cells.setdefault("said", f"naive: {error}"[:NOTE])
    return cells


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Loss and latency of each row, and how many rows miss what is asked."""
    found: dict[str, float] = {}
    for row in rows:
        for name in ("loss", "latency"):
            if name in row:
                found[f"{name}_{row['row']}"] = row[name]
    found["rows_missed"] = sum(is_missed(row) for row in rows)
    return found


def is_missed(row: dict[str, Any]) -> bool:
    """Whether too much is lost, or too little time is saved, or nothing came out."""
    if "loss" not in row or row["loss"] > row["asked"]:
        return True
    return row["asked latency"] is not None and row.get("latency", 0.0) > row["asked latency"]


def masked_equal_cases(count: int) -> int:
    """How many random networks, pruned, are equal to those with zeros: all, or an AssertionError."""
    import numpy as np

    from tests.passes.pruning.networks import HEADS, LAYERS
    from tests.passes.pruning.test_masked import check

    for seed in progress(range(count), lambda seed: f"masked, network {seed + 1}"):
        random = np.random.default_rng(seed)
        layers = random.choice(sorted(LAYERS), int(random.integers(0, 5))).tolist()
        check(layers, str(random.choice(sorted(HEADS))), seed)
    return count


if __name__ == "__main__":
    main()

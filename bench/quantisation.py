"""Quantisation after training, by ours, ONNX Runtime and NNCF: metric, SQNR, size and share of integers.

    python -m bench.quantisation [--quick] [--model trn_cifar] [--peers-from FILE] [--json FILE]
                                 [--readme]

Each tool gets the same 128 calibration samples (or as many as there are) without labels; test sets judge the files,
and nothing else. Metrics are top-1 in per cent with a 95 % interval (`low`, `high`), SQNR is that of the first output
against the float model's over the test set. `int8 weights` and `int8 MACs` are the shares of the file's products that
are stored and multiplied in 8 bits or fewer. `compiled` are ours as a library, the others ONNX Runtime's answers.
A tool that is not installed, or fails, is told in the last column. ONNX Runtime's and NNCF's results are kept in the
file of `--peers-from`, and taken from there while their versions are the same.

`sqnr_below_best_peer` counts models on which ours has less SQNR than the best of these results and the recorded ones.
Some peers leave layers in float; `sqnr_below_best_int8_peer` compares with those that quantise as much as ours must:
all weights of products, and 99 % of their multiply-adds. `best peer` and `best int8 peer` are the two in decibels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import graphopt
from bench.common import ZOO, Report, arguments, progress
from bench.peers import PeerError
from bench.quantised import Case, compiled, makeup, session
from bench.quantisers import PEERS
from bench.readme import README, quantisation_table, write_section
from bench.recorded import RECORDED, Kept
from graphopt.data import input_specs
from graphopt.errors import GraphoptError
from graphopt.onnx_io.write import write_model
from graphopt.quantization import quantize

MODELS = {
    "trn_cifar_mbv": "trn_cifar_mbv_op17",
    "trn_cifar_resnets": "trn_cifar_resnets_op13",
    "mlperf_resnet8_bn": "mlperf_resnet8_bn_op17",
    "pkg_magika_v3_3_b1": "pkg_magika_v3_3_b1",
    "trn_mnist_vit": "trn_mnist_vit_op17",
    "trn_mnist_lenetw": "trn_mnist_lenetw_op13",
    "trn_mnist_lstm": "trn_mnist_lstm_op17",
    "pkg_ppocr_cls": "pkg_ppocr_cls_static",
}
"""Files of the zoo by the names they have in tables."""

NOTE = 60
"""Letters of a note in the table; the JSON file has all."""

INT8 = "graphopt int8"
OURS: dict[str, dict[str, Any]] = {
    INT8: {"scheme": "int8"},
    "graphopt int4 weights": {"scheme": "16x4"},
}
"""Options of ours by what the rows call them."""

FLOAT = "float"
QUICK, QUICK_SAMPLES = ("mlperf_resnet8_bn", "trn_mnist_lenetw"), 400
PURE = {"int8 weights": 100.0, "int8 MACs": 99.0}
"""Per cent from which a file counts as int8."""

COLUMNS = (
    "model", "tool", "metric", "low", "high", "loss", "SQNR", "best peer", "best int8 peer", "compiled",
    "compiled SQNR", "KB", "bits a weight", "int8 weights", "int8 MACs", "seconds", "said",
)  # fmt: skip
FORMATS = {
    **dict.fromkeys(("metric", "low", "high", "loss", "compiled", "bits a weight"), ".2f"),
    **dict.fromkeys(
        ("SQNR", "best peer", "best int8 peer", "compiled SQNR", "int8 weights", "int8 MACs", "seconds"),
        ".1f",
    ),
}


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    parser.add_argument("--samples", type=int, default=2000, help="test samples per model")
    parser.add_argument("--peers-from", type=Path, metavar="FILE", help="keep the peers' results there")
    parser.add_argument("--tool", action="append", help="only tools whose name starts so")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    options = parser.parse_args()
    if options.readme and (options.quick or options.model or options.tool):
        parser.error("--readme wants all models and tools: leave out --quick, --model and --tool")
    if find_spec("onnxruntime") is None:
        sys.exit("ONNX Runtime is not installed, which runs all files [pip install -e '.[bench]']")
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    tools = tuple(options.tool or ("",))
    test = QUICK_SAMPLES if options.quick else options.samples
    kept = Kept(options.peers_from)
    report = Report("Quantised after training", COLUMNS, formats=FORMATS)
    for name in progress([name for name in MODELS if name.startswith(wanted)], str):
        for row in rows_of(name, tools, test, kept):
            report.add(**row, said=row.get("note", "")[:NOTE])
    for row in report.rows:
        if row["tool"] == INT8:
            row["best peer"] = best_peer(report.rows, row["model"], pure=False)
            row["best int8 peer"] = best_peer(report.rows, row["model"], pure=True)
    report.figures = figures(report.rows)
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.quantisation", quantisation_table(report, list(OURS)))


def rows_of(name: str, tools: tuple[str, ...], test: int, kept: Kept) -> Iterator[dict[str, Any]]:
    """The float model, ours, then the peers."""
    model = ZOO / "models" / f"{MODELS[name]}.onnx"
    if not model.is_file():
        yield {"model": name, "tool": FLOAT, "note": "it is not in the zoo"}
        return
    case = Case(name, model, input_specs(graphopt.load(model)), test)
    yield {"model": name, "tool": FLOAT, **case.score(case.reference), "KB": model.stat().st_size / 1e3}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for tool, quantised in OURS.items():
            if tool.startswith(tools):
                yield {"model": name, "tool": tool, **ours(case, quantised, Path(folder) / f"{tool}.onnx")}
        for tool, quantiser in PEERS.items():
            if not tool.startswith(tools):
                continue
            key = kept.key(name, tool, quantiser.version, test)
            if key not in kept:
                kept[key] = peer(case, tool, Path(folder))
            yield {"model": name, "tool": tool, **kept[key]}


def ours(case: Case, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """The row of our own file, in ONNX Runtime and compiled."""
    start = time.perf_counter()
    row: dict[str, Any] = {}
    try:
        write_model(quantize(case.model, case.calibration, **options).graph, out)
        row["seconds"] = time.perf_counter() - start
        row |= judged(case, out)
        library = case.judge(compiled(out))
    except GraphoptError as error:
        return {**row, "note": str(error)}
    return {**row, "compiled": library["metric"], "compiled SQNR": library["SQNR"]}


def peer(case: Case, tool: str, folder: Path) -> dict[str, Any]:
    """The row of a peer's file."""
    out = folder / f"{tool}.onnx"
    start = time.perf_counter()
    try:
        PEERS[tool].run(case.model, case.calibration, out)
    except PeerError as error:
        return {"note": str(error)}
    return {"seconds": time.perf_counter() - start, **judged(case, out)}


def judged(case: Case, out: Path) -> dict[str, Any]:
    row = {**case.judge(session(out)), **makeup(out)}
    return {**row, "loss": case.metric - row["metric"]}


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The worst losses, on how many models a peer is nearer to float, and seconds."""
    found: dict[str, float] = {}
    for tool in OURS:
        losses = [row["loss"] for row in rows if row["tool"] == tool and "loss" in row]
        if losses:
            found[f"worst_loss_{'_'.join(tool.split()[1:])}"] = max(losses)
        bits = [row["bits a weight"] for row in rows if row["tool"] == tool and row.get("bits a weight")]
        if bits and tool != INT8:
            found["most_bits_a_weight"] = max(bits)
    mine = {row["model"]: row for row in rows if row["tool"] == INT8 and "SQNR" in row}
    if mine:
        found["models"] = len(mine)
        found["sqnr_below_best_peer"] = sum(
            row["SQNR"] < best_peer(rows, name, pure=False) for name, row in mine.items()
        )
        found["sqnr_below_best_int8_peer"] = sum(
            row["SQNR"] < best_peer(rows, name, pure=True) for name, row in mine.items()
        )
        spent = [
            sum(row.get("seconds", 0.0) for row in rows if row["model"] == name and row["tool"] in OURS)
            for name in mine
        ]
        found["seconds_per_model"] = max(spent)
    return found


def best_peer(rows: list[dict[str, Any]], model: str, *, pure: bool) -> float:
    """The highest SQNR of a peer, now or recorded; `pure` leaves out those that keep products in float."""
    theirs = [row for row in rows if row["model"] == model and row["tool"] in PEERS and "SQNR" in row]
    if pure:
        theirs = [row for row in theirs if all((row[key] or 0.0) >= least for key, least in PURE.items())]
    return max([row["SQNR"] for row in theirs] + [RECORDED[model].sqnr], default=float("-inf"))


if __name__ == "__main__":
    main()

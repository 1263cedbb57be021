"""Float models on this machine: ours without tuning, ONNX Runtime, OpenVINO and ncnn, side by side.

    python -m bench.cpu [--quick] [--model resnet18] [--threads 1,2] [--seconds 3] [--int8] [--json FILE] [--readme]
                        [--all]

All runtimes get the same inputs and take turns; the least time of each counts. `ratio` is ours over the best
peer's: below 1 we are faster; `of medians` is the same of the medians. A peer whose answer is wrong, or that cannot
run a model, shows no time. `of peak` is the share of the multiply-adds that this machine can do, measured first.
`compile s` and `compile MB` are those of the command `graphopt compile`, from its start to its end. With `--readme`
the table in README.md is written anew; with `--all` the figures of bench.roofline and bench.arm are taken too.

With `--int8` everyone runs an int8 file of its own making (`bench/int8.py`), on one thread unless told otherwise, and
ours in float takes turns with them: `over float` is its time over ours in int8, `of library` our library's size over
that in float. `error` is ours from our float answer, and whose file is off by more than half its scale has no time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx

import graphopt
from bench.common import Report, arguments, geometric_mean, progress
from bench.int8 import OURS, instructions, int8_files, largest_difference
from bench.models import LARGE, small_models
from bench.peers import PEERS, PeerError, Run
from bench.readme import README, cpu_table, int8_table, write_section
from graphopt.measurement import measure
from graphopt.roofline import measure_roofline

QUICK = ("mobilenet_v2", "lstm_2x256", "mlperf_resnet8_bn_op17")
FLOAT = "ours in float"
AGREE, AGREE_INT8 = 1e-2, 0.5
"""Share of the scale that a peer's answer may be off; a wrong conversion is off by more."""

OVER_FLOAT = {"resnet18": "resnet18", "mobilenet_v2": "mobilenetv2"}
"""Models whose gain from int8 is a figure, and their names in it."""


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    parser.add_argument("--threads", help=f"numbers of threads; 1,{os.cpu_count()} unless given, 1 for int8")
    parser.add_argument(
        "--int8", action="store_true", help="everyone's own int8 file instead of the float model"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="per model, runtime and number of threads")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    parser.add_argument("--all", action="store_true", help="add the figures of bench.roofline and bench.arm")
    options = parser.parse_args()
    if options.readme and (options.quick or options.model):
        parser.error("--readme wants all models: leave out --quick and --model")
    threads = options.threads or ("1" if options.int8 else f"1,{os.cpu_count()}")
    counts = sorted({int(count) for count in threads.split(",")})
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    models = {name: make for name, make in {**LARGE, **small_models()}.items() if name.startswith(wanted)}
    peak = {count: measure_roofline(count).flops for count in counts}
    columns = (
        "model",
        "threads",
        OURS,
        *((FLOAT, *(peer for peer in PEERS if peer != "ncnn")) if options.int8 else PEERS),
        "best peer",
        "ratio",
        "of medians",
        "GFLOP/s",
        "of peak",
        "compile s",
        "compile MB",
        *(("over float", "of library") if options.int8 else ()),
        "error",
    )
    title = "Milliseconds, the least of many runs"
    report = Report(f"{title}; int8 by {instructions()}" if options.int8 else title, columns)
    for name in progress(list(models), str):
        for row in compare(name, models[name], counts, options.seconds, peak, int8=options.int8):
            report.add(**row)
    report.figures = figures(report.rows, counts)
    report.figures |= {f"peak_gflops_{count}t": peak[count] / 1e9 for count in counts}
    if options.all:
        for module in ("bench.roofline", "bench.arm"):
            report.figures |= figures_of(module, options.quick)
    report.finish(options.json)
    if options.readme:
        name, table = (
            ("bench.int8", int8_table(report)) if options.int8 else ("bench.cpu", cpu_table(report, counts))
        )
        write_section(README, name, table)


def compare(
    name: str,
    make: Callable[[], onnx.ModelProto],
    counts: list[int],
    seconds: float,
    peak: Mapping[int, float],
    *,
    int8: bool = False,
) -> list[dict]:
    """One row for each number of threads."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        model = folder / f"{name}.onnx"
        onnx.save(make(), model)
        files, missing = int8_files(model, folder) if int8 else (dict.fromkeys((OURS, *PEERS), model), [])
        taken_to_compile = _compile(files[OURS], folder / "ours.bundle")
        ours = {OURS: graphopt.Bundle.open(folder / "ours.bundle")}
        if int8:
            ours[FLOAT] = graphopt.compile(model, out=folder / "float.bundle", name="ours")
        inputs = _inputs(ours[OURS])
        flops = 2 * (ours[OURS].report["summary"]["macs"] or 0)
        rows = []
        for count in counts:
            runs, error, absent = _contenders(files, ours, inputs, count, folder)
            taken = measure({(key, count): run for key, run in runs.items()}, seconds * len(runs))  # type: ignore[misc]
            times = {key: seconds for (key, _), seconds in taken.items()}
            row = _row(name, count, times, flops, peak[count])
            if int8:
                row |= {
                    "over float": row[FLOAT] / row[OURS],
                    "of library": _size(ours[OURS]) / _size(ours[FLOAT]),
                }
            rows.append({**row, **taken_to_compile, "error": error, "absent": "; ".join(missing + absent)})
        return rows


def _size(bundle: graphopt.Bundle) -> int:
    return bundle.library.stat().st_size


WATCHED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process that starts another: Linux counts what a process had before it became the other one, too."""


def _compile(model: Path, out: Path) -> dict[str, float]:
    """Compile as a user does; seconds, and megabytes at the most of that process and those it starts."""
    command = [
        sys.executable,
        "-m",
        "graphopt",
        "compile",
        str(model),
        "-o",
        str(out),
        "--name",
        "ours",
        "--json",
    ]
    start = time.perf_counter()
    watched = subprocess.run([sys.executable, "-c", WATCHED, *command], stdout=subprocess.PIPE, text=True)
    if watched.returncode:
        raise SystemExit(f"{model.name} does not compile; the error is above")
    return {"compile s": time.perf_counter() - start, "compile MB": int(watched.stdout) / 1e3}


def figures_of(module: str, quick: bool) -> dict[str, float]:
    """The figures that another benchmark prints; what it says goes to standard error."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", module, "--json", file.name, *(["--quick"] if quick else [])]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return json.loads(Path(file.name).read_text())["figures"]


def _contenders(
    files: Mapping[str, Path],
    ours: Mapping[str, graphopt.Bundle],
    inputs: Mapping[str, np.ndarray],
    count: int,
    folder: Path,
) -> tuple[dict[str, Run], float, list[str]]:
    """Everyone who gives the right answer, ours from ONNX Runtime's or our own in float, and why others are absent."""
    runs: dict[str, Run] = {key: _module(bundle, inputs, count) for key, bundle in ours.items()}
    right = runs[FLOAT if FLOAT in runs else OURS]()[0]
    agree = AGREE_INT8 if FLOAT in runs else AGREE
    error = largest_difference(runs[OURS]()[0], right) if FLOAT in runs else float("nan")
    absent = []
    for key, start in PEERS.items():
        if key not in files:
            continue
        try:
            run = start(files[key], inputs, count, folder)
            off = largest_difference(run()[0], right)
        except PeerError as reason:
            absent.append(str(reason))
            continue
        if key == "ONNX Runtime" and FLOAT not in runs:
            error = off
        if off <= agree:
            runs[key] = run
        else:
            absent.append(f"{key} is off by {off:.1g}")
    return runs, error, absent


def _module(bundle: graphopt.Bundle, inputs: Mapping[str, np.ndarray], count: int) -> Run:
    module = graphopt.Module(bundle.path)
    module.set_num_threads(count)
    return lambda: list(module(inputs).values())


def _row(name: str, count: int, times: Mapping[str, list[float]], flops: int, peak: float) -> dict:
    best = {key: min(seconds) for key, seconds in times.items()}
    medians = {key: statistics.median(seconds) for key, seconds in times.items()}
    peers = [key for key in best if key not in (OURS, FLOAT)]
    fastest = min(peers, key=best.__getitem__, default="")
    usual = min((medians[key] for key in peers), default=None)
    row: dict = {"model": name, "threads": count}
    row |= {key: 1e3 * value for key, value in best.items()}
    row |= {"best peer": fastest, "ratio": best[OURS] / best[fastest] if fastest else None}
    row |= {"of medians": medians[OURS] / usual if usual else None}
    row |= {"medians": {key: 1e3 * value for key, value in medians.items()}}
    row |= {"GFLOP/s": flops / best[OURS] / 1e9, "of peak": flops / best[OURS] / peak}
    return row


def _inputs(bundle: graphopt.Bundle) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        s.name: random.normal(size=s.shape).astype(s.dtype.numpy)
        if s.dtype.is_float
        else random.integers(0, 256, s.shape).astype(s.dtype.numpy)
        for s in bundle.abi.inputs
    }


def figures(rows: list[dict], counts: list[int]) -> dict[str, float]:
    """Geometric means of the ratio and the worst one, for one thread and for all."""
    found = {}
    for count, suffix in ((counts[0], "1t"), (counts[-1], "all"))[: len(counts)]:
        chosen = [row for row in rows if row["threads"] == count and row["ratio"] is not None]
        for size, names in (("large", set(LARGE)), ("small", None)):
            ratios = [r["ratio"] for r in chosen if (r["model"] in LARGE) == (names is not None)]
            if ratios:
                found[f"geomean_{suffix}_{size}"] = geometric_mean(ratios)
        if chosen:
            found[f"worst_{suffix}"] = max(row["ratio"] for row in chosen)
    gains = {row["model"]: row for row in rows if row["threads"] == counts[0] and "over float" in row}
    for name, told in OVER_FLOAT.items():
        if name in gains:
            found[f"int8_over_float_{told}"] = gains[name]["over float"]
    if gains:
        found["library_of_float"] = geometric_mean(row["of library"] for row in gains.values())
    return found


if __name__ == "__main__":
    main()

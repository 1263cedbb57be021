"""Float models on this machine: ours without tuning, ONNX Runtime, OpenVINO and ncnn, side by side.

    python -m bench.cpu [--quick] [--model resnet18] [--threads 1,2] [--seconds 3] [--json FILE] [--readme] [--all]

All runtimes get the same inputs and take turns; the least time of each counts. `ratio` is ours over the best
peer's: below 1 we are faster; `of medians` is the same of the medians. A peer whose answer is wrong, or that cannot
run a model, shows no time. `of peak` is the share of the multiply-adds that this machine can do, measured first.
`compile s` and `compile MB` are those of the command `graphopt compile`, from its start to its end. With `--readme`
the table in README.md is written anew; with `--all` the figures of bench.roofline and bench.arm are taken too.
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
from bench.models import LARGE, small_models
from bench.peers import PEERS, PeerError, Run
from bench.readme import README, cpu_table, write_section
from graphopt.measurement import measure
from graphopt.roofline import measure_roofline

QUICK = ("mobilenet_v2", "lstm_2x256", "mlperf_resnet8_bn_op17")
OURS = "graphopt"
AGREE = 1e-2
"""Share of the scale that a peer's answer may be off; a wrong conversion is off by more."""


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}", help="numbers of threads")
    parser.add_argument("--seconds", type=float, default=3.0, help="per model, runtime and number of threads")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    parser.add_argument("--all", action="store_true", help="add the figures of bench.roofline and bench.arm")
    options = parser.parse_args()
    if options.readme and (options.quick or options.model):
        parser.error("--readme wants all models: leave out --quick and --model")
    counts = sorted({int(count) for count in options.threads.split(",")})
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    models = {name: make for name, make in {**LARGE, **small_models()}.items() if name.startswith(wanted)}
    peak = {count: measure_roofline(count).flops for count in counts}
    columns = (
        "model",
        "threads",
        OURS,
        *PEERS,
        "best peer",
        "ratio",
        "of medians",
        "GFLOP/s",
        "of peak",
        "compile s",
        "compile MB",
        "error",
    )
    report = Report("Milliseconds, the least of many runs", columns)
    for name in progress(list(models), str):
        for row in compare(name, models[name], counts, options.seconds, peak):
            report.add(**row)
    report.figures = figures(report.rows, counts)
    report.figures |= {f"peak_gflops_{count}t": peak[count] / 1e9 for count in counts}
    if options.all:
        for module in ("bench.roofline", "bench.arm"):
            report.figures |= figures_of(module, options.quick)
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.cpu", cpu_table(report, counts))


def compare(
    name: str,
    make: Callable[[], onnx.ModelProto],
    counts: list[int],
    seconds: float,
    peak: Mapping[int, float],
) -> list[dict]:
    """One row for each number of threads."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        model = folder / f"{name}.onnx"
        onnx.save(make(), model)
        taken_to_compile = _compile(model, folder / "ours.bundle")
        bundle = graphopt.Bundle.open(folder / "ours.bundle")
        inputs = _inputs(bundle)
        flops = 2 * (bundle.report["summary"]["macs"] or 0)
        rows = []
        for count in counts:
            runs, error, absent = _contenders(model, bundle.path, inputs, count, folder)
            taken = measure({(key, count): run for key, run in runs.items()}, seconds * len(runs))  # type: ignore[misc]
            times = {key: seconds for (key, _), seconds in taken.items()}
            row = _row(name, count, times, flops, peak[count])
            rows.append({**row, **taken_to_compile, "error": error, "absent": "; ".join(absent)})
        return rows


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
    model: Path, bundle: Path, inputs: Mapping[str, np.ndarray], count: int, folder: Path
) -> tuple[dict[str, Run], float, list[str]]:
    """Everyone who gives the right answer, how far ours is from ONNX Runtime's, and why others are absent."""
    module = graphopt.Module(bundle)
    module.set_num_threads(count)
    runs: dict[str, Run] = {OURS: lambda: list(module(inputs).values())}
    right = runs[OURS]()
    error, absent = float("nan"), []
    for key, start in PEERS.items():
        try:
            run = start(model, inputs, count, folder)
            off = _difference(run(), right)
        except PeerError as reason:
            absent.append(str(reason))
            continue
        if key == "ONNX Runtime":
            error = off
        if off <= AGREE:
            runs[key] = run
        else:
            absent.append(f"{key} is off by {off:.1g}")
    return runs, error, absent


def _difference(answers: list[np.ndarray], right: list[np.ndarray]) -> float:
    a, b = answers[0].reshape(-1).astype(np.float64), right[0].reshape(-1).astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def _row(name: str, count: int, times: Mapping[str, list[float]], flops: int, peak: float) -> dict:
    best = {key: min(seconds) for key, seconds in times.items()}
    medians = {key: statistics.median(seconds) for key, seconds in times.items()}
    fastest = min((key for key in best if key != OURS), key=best.__getitem__, default="")
    usual = min((medians[key] for key in best if key != OURS), default=None)
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
    for count, suffix in ((counts[0], "1t"), (counts[-1], "all")):
        chosen = [row for row in rows if row["threads"] == count and row["ratio"] is not None]
        for size, names in (("large", set(LARGE)), ("small", None)):
            ratios = [r["ratio"] for r in chosen if (r["model"] in LARGE) == (names is not None)]
            if ratios:
                found[f"geomean_{suffix}_{size}"] = geometric_mean(ratios)
        if chosen:
            found[f"worst_{suffix}"] = max(row["ratio"] for row in chosen)
    return found


if __name__ == "__main__":
    main()

"""Every model of the zoo: what the compiler makes of it, and whether the answers stay the same.

    python -m bench.zoo [--quick] [--target rpi4] [--json FILE]

Compares with ONNX Runtime on each model's own data, and labels where there are any. `error` is the largest
difference over the largest magnitude of the output. With a target for another machine the library runs under
emulation, on few samples.

The column `oracle` says what ONNX Runtime computes with: floats, or, for a quantised model, how many of its quantised
convolutions and matrix products are sums of integers there (`graphopt/integer_oracle.py`). `error`, `metric ORT`,
`agree`, `same_metric` and `worst_error` are against that oracle. What a quantised model differs from ONNX Runtime's
plain session, which runs it in floats with rounding errors of its own, stands beside: the share of samples that
differ at all, the error, the metric, and the figures `agree_float_session` and `worst_error_float_session`, which are
over all models.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import graphopt
from bench.common import Report, arguments, progress
from bench.models import ZOO_SHAPES, zoo_models
from bench.oracles import onnx_runtime
from bench.tasks import Samples, samples
from bench.vision import mobilenet_v2
from graphopt.integer_oracle import integer_kernels
from graphopt.runtime.compare import SMALLEST_SCALE, compare_arrays
from graphopt.verification import runner

Answers = Sequence[Mapping[str, np.ndarray]]
"""The outputs of each sample, by name."""

TOLERANCE = 1e-4
QUICK = (
    "mlperf_resnet8_bn_op17",
    "mlperf_kws_bn_op13",
    "trn_mnist_vit_op13",
    "pkg_magika_v3_3_b1",
    "trn_digits",
)
COLUMNS = (
    "model", "nodes", "optimised", "groups", "kernels", "MMACs", "arena", "over bound", "weights", "library",
    "seconds", "oracle", "error", "metric", "metric ORT", "floats: differ", "floats: error", "floats: metric",
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--target", default="host", help="a target's name; others than host run emulated")
    parser.add_argument("--samples", type=int, default=2000, help="test samples per model")
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    options = parser.parse_args()
    if find_spec("onnxruntime") is None:
        parser.error("ONNX Runtime is not installed [pip install onnxruntime]")
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    paths = [p for p in zoo_models() if p.stem.startswith(wanted)]
    count = 50 if options.quick else options.samples
    report = Report(f"The zoo on {options.target}", COLUMNS)
    for path in progress(paths, lambda p: p.stem):
        report.add(**measure(path, options.target, count if options.target == "host" else 2))
    rows = report.rows
    errors = [row["error"] for row in rows if row["error"] is not None]
    session = [row["floats: error"] for row in rows if row["floats: error"] is not None]
    report.figures = {
        "models": len(errors),
        "agree": sum(error <= TOLERANCE for error in errors),
        "same_metric": sum(row["metric"] == row["metric ORT"] for row in rows if row["error"] is not None),
        "worst_error": max(errors, default=float("nan")),
        "agree_float_session": sum(error <= TOLERANCE for error in session),
        "worst_error_float_session": max(session, default=float("nan")),
        "arena_over_bound": max((row["over bound"] for row in rows if row["over bound"]), default=1.0),
        "mobilenet_compile_s": mobilenet_compile_seconds(options.target),
        "import_ratio": import_ratio(),
    }
    report.finish(options.json)


def measure(path: Path, target: str, count: int) -> dict:
    """One row. A model that does not compile gets its error in the column `model`."""
    row: dict = dict.fromkeys(COLUMNS)
    row["model"] = path.stem
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        shapes = ZOO_SHAPES.get(path.stem)
        try:
            bundle = graphopt.compile(path, target=target, out=Path(folder) / "m.bundle", input_shapes=shapes)
        except graphopt.GraphoptError as error:
            row["model"] = f"{path.stem}: {error}"
            return row
        report = bundle.report
        row.update(
            {
                "seconds": time.perf_counter() - start,
                "nodes": report["summary"]["nodes_imported"],
                "optimised": report["summary"]["nodes_optimized"],
                "groups": report["summary"]["layers"],
                "kernels": report["summary"]["kernels"],
                "MMACs": (report["summary"]["macs"] or 0) / 1e6,
                "arena": report["memory"]["arena_bytes"],
                "over bound": report["memory"]["over_bound"],
                "weights": report["summary"]["weights_bytes"],
                "library": bundle.library.stat().st_size,
            }
        )
        specs = {s.name: (s.dtype.numpy, s.shape) for s in bundle.abi.inputs}
        data = samples(path.stem, specs, split="test", count=count)
        row.update(agreement(path, bundle, data))
    return row


def agreement(path: Path, bundle: graphopt.Bundle, data: Samples) -> dict:
    """How far the bundle is from its oracle and from the session in floats, and everyone's share of right answers."""
    run, _ = runner(bundle)
    floats = onnx_runtime(path)
    integers = integer_kernels(path)
    oracle = onnx_runtime(integers.model) if integers else floats
    ours = [run(inputs) for inputs in data.inputs]
    want = [oracle(inputs) for inputs in data.inputs]
    session = [floats(inputs) for inputs in data.inputs] if integers else want
    row = {
        "oracle": str(integers or "floats"),
        "error": error(ours, want),
        "metric": accuracy(ours, data.labels),
        "metric ORT": accuracy(want, data.labels),
        "floats: error": error(ours, session),
    }
    if integers:
        differ = sum(error([a], [b]) > 0 for a, b in zip(ours, session, strict=True))
        row["floats: differ"] = f"{differ}/{len(ours)}"
        row["floats: metric"] = accuracy(session, data.labels)
    return row


def error(got: Answers, want: Answers) -> float:
    """The largest difference over the largest magnitude, of any output over all samples; NaN is no number."""
    worst = 0.0
    for name in want[0]:
        absolute = max(
            compare_arrays(name, b[name], a[name]).absolute for a, b in zip(got, want, strict=True)
        )
        scale = max(float(np.abs(b[name].astype(float)).max(initial=0.0)) for b in want)
        worst = max(worst, absolute / max(scale, SMALLEST_SCALE))
    return worst


def accuracy(answers: Answers, labels: np.ndarray | None) -> float | None:
    """Per cent of samples whose largest score is the label's."""
    if labels is None:
        return None
    hits = [int(next(iter(a.values())).argmax() == label) for a, label in zip(answers, labels, strict=True)]
    return round(100 * sum(hits) / len(hits), 2)


def mobilenet_compile_seconds(target: str) -> float:
    """Wall seconds from the ONNX bytes of MobileNetV2 at 224x224 to the bundle."""
    data = mobilenet_v2().SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        graphopt.compile(data, target=target, out=Path(folder) / "m.bundle")
        return time.perf_counter() - start


def import_ratio(rounds: int = 7) -> float:
    """Least seconds of `import graphopt` over those of `import numpy, onnx`, in fresh interpreters."""
    best = {}
    for _ in range(rounds):
        for statement in ("import numpy, onnx", "import graphopt"):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            best[statement] = min(best.get(statement, float("inf")), time.perf_counter() - start)
    return best["import graphopt"] / best["import numpy, onnx"]


if __name__ == "__main__":
    main()

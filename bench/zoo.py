"""Every model of the zoo: what the compiler makes of it, and whether the answers stay the same.

    python -m bench.zoo [--quick] [--target rpi4] [--json FILE]

Compares with ONNX Runtime on each model's own data, and labels where there are any. `worst_error` is the
largest difference over the largest magnitude of the output. With a target for another machine the library runs
under emulation, on few samples.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import graphopt
from bench.common import Report, arguments, progress
from bench.models import ZOO_SHAPES, zoo_models
from bench.tasks import Samples, samples
from bench.vision import mobilenet_v2

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
    "seconds", "error", "metric", "metric ORT",
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--target", default="host", help="a target's name; others than host run emulated")
    parser.add_argument("--samples", type=int, default=2000, help="test samples per model")
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    options = parser.parse_args()
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    paths = [p for p in zoo_models() if p.stem.startswith(wanted)]
    count = 50 if options.quick else options.samples
    report = Report(f"The zoo on {options.target}", COLUMNS)
    for path in progress(paths, lambda p: p.stem):
        report.add(**measure(path, options.target, count if options.target == "host" else 2))
    rows = report.rows
    good = [row for row in rows if row["error"] is not None and row["error"] <= TOLERANCE]
    report.figures = {
        "models": sum(row["error"] is not None for row in rows),
        "agree": len(good),
        "same_metric": sum(row.get("metric") == row.get("metric ORT") for row in rows),
        "worst_error": max((row["error"] for row in rows if row["error"] is not None), default=float("nan")),
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
        if target != "host":
            from graphopt.verification import verify_bundle

            row["error"] = verify_bundle(path, bundle.path, samples=count).worst
            return row
        row.update(agreement(path, bundle.path, data))
    return row


def agreement(path: Path, bundle: Path, data: Samples) -> dict:
    """Largest error over all outputs and samples, and the share of right answers of both."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options)
    names = [output.name for output in session.get_outputs()]
    module = graphopt.Module(bundle)
    scale, difference = np.zeros(len(names)), np.zeros(len(names))
    hits = np.zeros(2, int)
    for index, inputs in enumerate(data.inputs):
        ours, theirs = module(inputs), session.run(names, inputs)
        for k, (name, want) in enumerate(zip(names, theirs, strict=True)):
            difference[k] = max(difference[k], np.abs(ours[name].astype(float) - want).max())
            scale[k] = max(scale[k], np.abs(want.astype(float)).max())
        if data.labels is not None:
            answers = (ours[names[0]].argmax(), theirs[0].argmax())
            hits += [answer == data.labels[index] for answer in answers]
    row: dict = {"error": float((difference / np.maximum(scale, 1e-6)).max())}
    if data.labels is not None:
        row["metric"], row["metric ORT"] = (round(100 * h / len(data.inputs), 2) for h in hits.tolist())
    return row


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

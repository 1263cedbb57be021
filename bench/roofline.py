"""How close each layer comes to what this machine can do: ResNet-50 and MobileNetV2 on one thread.

    python -m bench.roofline [--quick] [--model resnet50] [--seconds 10] [--json FILE]

A layer of so many operations on so many bytes can do at most min(peak, bandwidth x intensity) operations a second;
both limits are measured before and after (`graphopt/roofline.py`), the higher ones count. A layer's time is the least
of many runs. The bandwidth is that of the memory: a layer whose data lies in a cache can be above its roofline, and
counts as 1. `roofline_mean` weighs the layers by their operations, `roofline_worst` is the lowest share of all; the
table starts with the layers that lose most time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

import graphopt
from bench.common import Report, arguments, progress
from bench.models import LARGE
from graphopt.measurement import LayerTime, layer_times
from graphopt.roofline import Roofline, measure_roofline

MODELS = ("resnet50", "mobilenet_v2")
COLUMNS = (
    "model",
    "layer",
    "operators",
    "schedule",
    "MFLOP",
    "microseconds",
    "GFLOP/s",
    "of roofline",
    "lost",
)


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", choices=sorted(LARGE), help="only this model")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, per model")
    options = parser.parse_args()
    models = options.model or (MODELS[1:] if options.quick else MODELS)
    report = Report("Layers on one thread, by the microseconds above the roofline", COLUMNS)
    before = measure_roofline(1)
    times = {name: profile(name, options.seconds) for name in progress(models, str)}
    after = measure_roofline(1)
    roofline = Roofline(max(before.flops, after.flops), max(before.bandwidth, after.bandwidth))
    report.rows = [row for name in models for row in layer_rows(name, times[name], roofline)]
    report.rows.sort(key=lambda row: -row["lost"])
    report.figures = figures(report.rows)
    report.figures |= {"peak_gflops": roofline.flops / 1e9, "bandwidth_gbs": roofline.bandwidth / 1e9}
    report.finish(options.json)


def profile(name: str, seconds: float) -> list[LayerTime]:
    """The least time of every layer in `seconds` of runs on one thread."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        model = Path(folder, f"{name}.onnx")
        onnx.save(LARGE[name](), model)
        bundle = graphopt.compile(model, out=Path(folder, "ours.bundle"), name="ours", profile=True)
        return layer_times(bundle.path, threads=1, seconds=seconds)


def layer_rows(name: str, times: list[LayerTime], roofline: Roofline) -> list[dict]:
    """One row for each layer that does arithmetic."""
    rows = []
    for entry in times:
        share = entry.share_of(roofline)
        if share is None or entry.flops is None:
            continue
        rows.append(
            {
                "model": name,
                "layer": entry.layer["name"],
                "operators": "+".join(entry.layer["operators"]),
                "schedule": entry.layer["schedule"],
                "MFLOP": entry.layer["flops"] / 1e6,
                "microseconds": entry.seconds * 1e6,
                "GFLOP/s": entry.flops / 1e9,
                "of roofline": share,
                "lost": entry.seconds * 1e6 * (1 - min(share, 1.0)),
            }
        )
    return rows


def figures(rows: list[dict]) -> dict[str, float]:
    """The mean share over all layers, weighted by their operations, and the lowest."""
    if not rows:
        return {}
    shares = np.minimum([row["of roofline"] for row in rows], 1.0)
    work = np.array([row["MFLOP"] for row in rows])
    return {
        "roofline_mean": float(np.average(shares, weights=work)),
        "roofline_worst": float(shares.min()),
    }


if __name__ == "__main__":
    main()

"""Models on ARM Linux: guest instructions and modelled cycles of one inference, against recorded peers.

    python -m bench.arm [--quick] [--model resnet18] [--device rpi4] [--kernels] [--precision float16] [--int8]
                        [--json FILE]

Everything runs on one thread under QEMU's user emulation (`bench/guest.py`): counts are exact. Cycles are modelled
(`bench/cycles.py`). NEITHER IS A TIME. Peers were counted in the same way once and are compared with below; being
exact, the counts would be the same today. `--kernels` shows every layer instead: `of bound` is the least number of
cycles that its multiply-adds need over the modelled cycles, `inner` the same for its innermost loops.

Multiply-adds are counted as `graphopt inspect` does, with the taps on padding, which our kernels skip: a layer can be
beyond its bound. With `--int8` the networks with random weights are quantised by ours, the zoo's are TFLite's own int8
files, and bounds, which are those of float arithmetic, are left out. Needs Debian's qemu-user, libc6-arm64-cross and
llvm-19, and the zoo for three of the models.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

import graphopt
from bench import cycles, guest, vision
from bench.arm_peers import FLOAT16, FLOAT32, INT8, PEERS
from bench.common import Report, arguments, geometric_mean, progress
from bench.cycles import Model, Timing
from bench.int8 import quantised
from bench.models import small_models, zoo_models
from bench.oracles import onnx_runtime
from bench.readme import README, arm_table, write_section
from graphopt.targets.device import Target, load_target

DEVICES = {"rpi4": "a72", "rpi5": "a76"}
"""Devices by target; the processor's name in the figures."""

HALF_DEVICES = ("rpi5",)
QUICK = ("resnet8", "ds_cnn")
LANES = {FLOAT32: 4, FLOAT16: 8}
"""Elements in a register."""

SPREAD = 40.0
"""Standard deviation of inputs that are bytes."""


ZOO = {"resnet8": "mlperf_resnet8_bn_op17", "ds_cnn": "mlperf_kws_bn_op17", "vww": "mlperf_vww96_bn_op17"}
ZOO_INT8 = {
    "resnet8": "mlperf_resnet8_int8_qdq_op13",
    "ds_cnn": "mlperf_kws_int8_qdq_op13",
    "vww": "mlperf_vww_96_int8_qdq_op13",
}
COLUMNS = (
    "model", "device", "MMACs", "M instructions", "best peer", "its M instructions", "ratio",
    "M cycles", "its M cycles", "ratio of cycles", "of bound", "error",
)  # fmt: skip
LAYERS = (
    "model", "device", "kernel", "schedule", "image", "MMACs", "M instr", "per MAC", "M cycles", "share",
    "of bound", "inner",
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    parser.add_argument("--device", action="append", help="targets for Raspberry Pis with a 64-bit system")
    parser.add_argument("--kernels", action="store_true", help="a row for each layer")
    parser.add_argument("--precision", default=FLOAT32, help="float16 for processors with arithmetic for it")
    parser.add_argument("--int8", action="store_true", help="quantised models")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    options = parser.parse_args()
    kind = INT8 if options.int8 else options.precision
    if options.int8 and options.precision != FLOAT32:
        parser.error("--int8 and --precision exclude each other")
    special = kind != FLOAT32 or options.kernels or options.device
    if options.readme and (special or options.quick or options.model):
        parser.error("--readme wants all models on all devices in float32: leave the other options out")
    known = HALF_DEVICES if kind == FLOAT16 else DEVICES
    devices = [load_target(name) for name in options.device or known]
    reasons = [cycles.missing(), *(guest.missing(device) for device in devices)]
    if any(reasons):
        sys.exit("; ".join(reason for reason in reasons if reason))
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    chosen = {name: make for name, make in models(kind).items() if name.startswith(wanted)}
    title = "One inference, one thread, emulated: counts are exact, cycles are modelled, neither is a time"
    for cpu in sorted(cycles.ONLY_RANKED.intersection(device.cpu for device in devices)):
        title += f"; cycles on {cpu} rank kernels, and are no share of a bound"
    report = Report(title, LAYERS if options.kernels else COLUMNS)
    for name, device in progress(
        [(n, d) for n in chosen for d in devices], lambda pair: f"{pair[0]} {pair[1].name}"
    ):
        counted = Counted.of(name, chosen[name](), device, kind)
        for row in counted.layers() if options.kernels else [counted.row()]:
            report.add(**row)
    report.figures = kernel_figures(report.rows) if options.kernels else figures(report.rows)
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.arm", arm_table(report))


def models(kind: str = FLOAT32) -> dict[str, Callable[[], onnx.ModelProto]]:
    """The compared models by name; those of the zoo only where it is."""
    if kind != INT8:
        zoo = small_models()
        small = {name: zoo[stem] for name, stem in ZOO.items() if stem in zoo}
        return {"resnet18": vision.resnet18, "mobilenet_v2": vision.mobilenet_v2, **small}
    paths = {path.stem: path for path in zoo_models()}
    return {
        "resnet18": lambda: quantised(vision.resnet18()),
        "mobilenet_v2": lambda: quantised(vision.mobilenet_v2()),
        **{
            name: lambda stem=stem: onnx.load(paths[stem])  # type: ignore[misc]
            for name, stem in ZOO_INT8.items()
            if stem in paths
        },
    }


@dataclass(frozen=True)
class Counted:
    """One model on one device: what was executed, and the model of the processor."""

    name: str
    device: Target
    kind: str
    layer_reports: list[dict]
    counts: guest.Counts
    model: Model
    error: float | None

    @classmethod
    def of(cls, name: str, model: onnx.ModelProto, device: Target, kind: str) -> Counted:
        with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
            folder = Path(temporary)
            path = folder / f"{name}.onnx"
            onnx.save(model, path)
            bundle = graphopt.compile(
                path,
                target=device,
                out=folder / "model.bundle",
                name=guest.NAME,
                profile=True,
                precision=FLOAT16 if kind == FLOAT16 else FLOAT32,
            )
            random = np.random.default_rng(0)
            inputs = {
                s.name: random.normal(0, 1.0 if s.dtype.is_float else SPREAD, s.shape).astype(s.dtype.numpy)
                for s in bundle.abi.inputs
            }
            counts = guest.count(bundle, inputs, folder)
            error = _error(path, inputs, counts.outputs)
            layers = bundle.report["layers"]
            pipelines = Model(cycles.MODELS[device.cpu])
            return cls(name, device, kind, layers, counts, pipelines, error)

    def row(self) -> dict:
        timing = self.model.timing(self.counts.run)
        macs = sum(layer["macs"] or 0 for layer in self.layer_reports)
        peers = PEERS[self.kind].get((self.name, self.device.name), ())
        row: dict = {"model": self.name, "device": self.device.name, "MMACs": macs / 1e6}
        row |= {"M instructions": self.counts.instructions / 1e6, "M cycles": timing.cycles / 1e6}
        row |= {"of bound": self._share(macs, timing), "error": self.error}
        if peers:
            best = min(peers, key=lambda peer: peer.instructions)
            row |= {"best peer": best.runtime, "its M instructions": best.instructions}
            row["ratio"] = self.counts.instructions / 1e6 / best.instructions
        taken = [peer.cycles for peer in peers if peer.cycles is not None]
        if taken:
            row |= {"its M cycles": min(taken), "ratio of cycles": timing.cycles / 1e6 / min(taken)}
        return row

    def layers(self) -> Iterator[dict]:
        """A row for each layer, in the order of execution."""
        timings = [self.model.timing(blocks) for blocks in self.counts.layers]
        whole = sum(timing.cycles for timing in timings)
        for layer, blocks, timing in zip(self.layer_reports, self.counts.layers, timings, strict=True):
            macs = layer["macs"] or 0
            instructions = sum(block.count for block in blocks)
            yield {
                "model": self.name,
                "device": self.device.name,
                "kernel": layer["kernel"],
                "schedule": layer["schedule"],
                "image": layer["output"][0].split("@")[0],
                "MMACs": macs / 1e6,
                "M instr": instructions / 1e6,
                "per MAC": instructions / macs if macs else None,
                "M cycles": timing.cycles / 1e6,
                "share": timing.cycles / whole,
                "of bound": self._share(macs, timing) if macs else None,
                "inner": self._inner(timing),
            }

    def _share(self, macs: int, timing: Timing) -> float | None:
        """The least cycles for the multiply-adds over those that were modelled."""
        if self.device.cpu in cycles.ONLY_RANKED or self.kind not in LANES:
            return None
        return macs / LANES[self.kind] / self.device.fma_per_cycle / timing.cycles

    def _inner(self, timing: Timing) -> float | None:
        if not timing.inner_cycles or self.device.cpu in cycles.ONLY_RANKED or self.kind not in LANES:
            return None
        return timing.inner_multiply_adds / self.device.fma_per_cycle / timing.inner_cycles


def _error(model: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> float | None:
    """How far the first output is from ONNX Runtime's, over its scale; None where that is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    right = next(iter(onnx_runtime(model)(inputs).values())).astype(np.float64)
    ours = next(iter(outputs.values())).astype(np.float64)
    return float(np.abs(ours - right).max() / np.abs(right).max())


def figures(rows: list[dict]) -> dict[str, float]:
    """Geometric means of the ratios and the worst of each, by processor."""
    found = {}
    for device, processor in DEVICES.items():
        for name, column in (("count", "ratio"), ("cycles", "ratio of cycles")):
            ratios = [r[column] for r in rows if r["device"] == device and r.get(column) is not None]
            if ratios:
                found[f"{processor}_{name}_geomean"] = geometric_mean(ratios)
                found[f"{processor}_{name}_worst"] = max(ratios)
    return found


def kernel_figures(rows: list[dict]) -> dict[str, float]:
    """For each device and template: the share of the bound in the innermost loops, weighted by multiply-adds. Layers
    without any, such as a softmax, multiply and add, but have no bound."""
    found = {}
    for device in dict.fromkeys(row["device"] for row in rows):
        kinds: dict[str, list[dict]] = {}
        for row in rows:
            if row["device"] == device and row["inner"] and row["MMACs"]:
                kinds.setdefault(row["schedule"].split("{")[0], []).append(row)
        for kind, members in kinds.items():
            for column in ("inner", "of bound"):
                spent = sum(row["MMACs"] / row[column] for row in members)
                name = f"{device}_{kind}_{column.replace(' ', '_')}"
                found[name] = sum(row["MMACs"] for row in members) / spent
    return found


if __name__ == "__main__":
    main()

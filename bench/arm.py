"""Float models on ARM Linux: guest instructions and modelled cycles of one inference, against recorded peers.

    python -m bench.arm [--quick] [--model resnet18] [--device rpi4] [--kernels] [--precision float16] [--json FILE]

Everything runs on one thread under QEMU's user emulation (`bench/guest.py`): counts are exact. Cycles are modelled
(`bench/cycles.py`). NEITHER IS A TIME. Peers were counted in the same way once and are compared with below; being
exact, the counts would be the same today. `--kernels` shows every layer instead: `of bound` is the least number of
cycles that its multiply-adds need over the modelled cycles, `inner` the same for its innermost loops.

Multiply-adds are counted as `graphopt inspect` does, with the taps on padding, which our kernels skip: a layer can be
beyond its bound. Needs Debian's qemu-user, libc6-arm64-cross and llvm-19, and the zoo for three of the models.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import graphopt
from bench import cycles, guest, vision
from bench.common import Report, arguments, geometric_mean, progress
from bench.cycles import Model, Timing
from bench.models import small_models
from bench.peers import PeerError, onnx_runtime
from bench.readme import README, arm_table, write_section
from graphopt.api import FLOAT32
from graphopt.targets.device import Target, load_target

DEVICES = {"rpi4": "a72", "rpi5": "a76"}
"""Devices by target; the processor's name in the figures."""

HALF_DEVICES = ("rpi5",)
QUICK = ("resnet8", "ds_cnn")
LANES = {"float32": 4, "float16": 8}
"""Elements in a register."""


@dataclass(frozen=True)
class Peer:
    """Millions of guest instructions; of modelled cycles where they were taken."""

    runtime: str
    instructions: float
    cycles: float | None = None


ONNX_RUNTIME, NCNN, LITERT = "ONNX Runtime 1.32", "ncnn 1.0.20261020", "LiteRT 2.3"
PEERS: dict[tuple[str, str], tuple[Peer, ...]] = {
    ("resnet18", "rpi4"): (Peer(ONNX_RUNTIME, 665, 538), Peer(NCNN, 239.383, 207.485)),
    ("resnet18", "rpi5"): (Peer(ONNX_RUNTIME, 666, 281), Peer(NCNN, 239.383, 107.955)),
    ("mobilenet_v2", "rpi4"): (Peer(ONNX_RUNTIME, 181, 158), Peer(NCNN, 101.242, 94.431)),
    ("mobilenet_v2", "rpi5"): (Peer(ONNX_RUNTIME, 181, 95), Peer(NCNN, 101.245, 48.862)),
    ("resnet8", "rpi4"): (Peer(ONNX_RUNTIME, 6.57), Peer(NCNN, 3.208, 2.663), Peer(LITERT, 4.89)),
    ("resnet8", "rpi5"): (Peer(ONNX_RUNTIME, 6.57), Peer(NCNN, 3.207, 1.544), Peer(LITERT, 4.71)),
    ("ds_cnn", "rpi4"): (Peer(ONNX_RUNTIME, 3.05), Peer(NCNN, 1.216, 1.036)),
    ("ds_cnn", "rpi5"): (Peer(ONNX_RUNTIME, 3.05), Peer(NCNN, 1.216, 0.594)),
    ("vww", "rpi4"): (Peer(ONNX_RUNTIME, 7.66), Peer(NCNN, 3.207, 2.851), Peer(LITERT, 3.63)),
    ("vww", "rpi5"): (Peer(ONNX_RUNTIME, 7.65), Peer(NCNN, 3.207, 1.577), Peer(LITERT, 3.52)),
}
"""float32, one thread; cortex-a72, and cortex-a76 with its dot products. ncnn uses Winograd, in float32 throughout.

ncnn was counted with this very plugin and these models of the pipelines, its aarch64 wheel under an emulated Python;
of the others on the small models only instructions are known, which are more than ncnn's.
"""

PEERS_IN_HALF: dict[tuple[str, str], tuple[Peer, ...]] = {
    ("resnet18", "rpi5"): (Peer(NCNN, 130, 67),),
    ("mobilenet_v2", "rpi5"): (Peer(NCNN, 54, 27),),
}
"""float16 arithmetic, where the processor has it."""

ZOO = {"resnet8": "mlperf_resnet8_bn_op17", "ds_cnn": "mlperf_kws_bn_op17", "vww": "mlperf_vww96_bn_op17"}
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
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    options = parser.parse_args()
    half = options.precision != FLOAT32
    if options.readme and (half or options.quick or options.model or options.device or options.kernels):
        parser.error("--readme wants all models on all devices in float32: leave the other options out")
    devices = [load_target(name) for name in options.device or (HALF_DEVICES if half else DEVICES)]
    reasons = [cycles.missing(), *(guest.missing(device) for device in devices)]
    if any(reasons):
        sys.exit("; ".join(reason for reason in reasons if reason))
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    chosen = {name: make for name, make in models().items() if name.startswith(wanted)}
    title = "One inference, one thread, emulated: counts are exact, cycles are modelled, neither is a time"
    for cpu in sorted(cycles.ONLY_RANKED.intersection(device.cpu for device in devices)):
        title += f"; cycles on {cpu} rank kernels, and are no share of a bound"
    report = Report(title, LAYERS if options.kernels else COLUMNS)
    for name, device in progress(
        [(n, d) for n in chosen for d in devices], lambda pair: f"{pair[0]} {pair[1].name}"
    ):
        counted = Counted.of(name, chosen[name](), device, options.precision)
        for row in counted.layers() if options.kernels else [counted.row()]:
            report.add(**row)
    report.figures = kernel_figures(report.rows) if options.kernels else figures(report.rows)
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.arm", arm_table(report))


def models() -> dict[str, Callable[[], onnx.ModelProto]]:
    """The compared models by name; those of the zoo only where it is."""
    zoo = small_models()
    small = {name: zoo[stem] for name, stem in ZOO.items() if stem in zoo}
    return {"resnet18": vision.resnet18, "mobilenet_v2": vision.mobilenet_v2, **small}


@dataclass(frozen=True)
class Counted:
    """One model on one device: what was executed, and the model of the processor."""

    name: str
    device: Target
    precision: str
    layer_reports: list[dict]
    counts: guest.Counts
    model: Model
    error: float | None

    @classmethod
    def of(cls, name: str, model: onnx.ModelProto, device: Target, precision: str) -> Counted:
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
                precision=precision,
            )
            random = np.random.default_rng(0)
            inputs = {s.name: random.normal(size=s.shape).astype(s.dtype.numpy) for s in bundle.abi.inputs}
            counts = guest.count(bundle, inputs, folder)
            error = _error(path, inputs, counts.outputs, folder)
            layers = bundle.report["layers"]
            pipelines = Model(cycles.MODELS[device.cpu])
            return cls(name, device, precision, layers, counts, pipelines, error)

    def row(self) -> dict:
        timing = self.model.timing(self.counts.run)
        macs = sum(layer["macs"] or 0 for layer in self.layer_reports)
        table = PEERS if self.precision == FLOAT32 else PEERS_IN_HALF
        peers = table.get((self.name, self.device.name), ())
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
        if self.device.cpu in cycles.ONLY_RANKED:
            return None
        return macs / LANES[self.precision] / self.device.fma_per_cycle / timing.cycles

    def _inner(self, timing: Timing) -> float | None:
        if not timing.inner_cycles or self.device.cpu in cycles.ONLY_RANKED:
            return None
        return timing.inner_multiply_adds / self.device.fma_per_cycle / timing.inner_cycles


def _error(
    model: Path, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], folder: Path
) -> float | None:
    """How far the first output is from ONNX Runtime's, over its scale; None where that is not installed."""
    try:
        (right, *_) = onnx_runtime(model, inputs, 1, folder)()
    except PeerError:
        return None
    ours = next(iter(outputs.values()))
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
    """For each device and template: the share of the bound in the innermost loops, weighted by multiply-adds."""
    found = {}
    for device in dict.fromkeys(row["device"] for row in rows):
        kinds: dict[str, list[dict]] = {}
        for row in rows:
            if row["device"] == device and row["inner"]:
                kinds.setdefault(row["schedule"].split("{")[0], []).append(row)
        for kind, members in kinds.items():
            for column in ("inner", "of bound"):
                spent = sum(row["MMACs"] / row[column] for row in members)
                name = f"{device}_{kind}_{column.replace(' ', '_')}"
                found[name] = sum(row["MMACs"] for row in members) / spent
    return found


if __name__ == "__main__":
    main()

"""MLPerf Tiny's models on microcontrollers: instructions, flash and RAM of one inference, against recorded peers.

    python -m bench.mcu [--quick] [--model resnet8] [--core cortex-m4f] [--json FILE] [--readme]

Every bundle is compiled with default options, built by gcc, and run on a board under QEMU; each row is one build. Its
outputs are compared with the numpy reference, bit for bit (`exact`). Instructions are counted exactly; cycles are
modelled (`bench/mcu_cycles.py`). NEITHER IS A TIME. The peers are TensorFlow Lite Micro with CMSIS-NN and onnx2c, which
were counted in the same way once (`bench/mcu_peers.py`), and emx-onnx-cgen, whose C is built and run here with the same
flags on the same board where it is installed. RAM is data, arena, inputs, outputs and the stack; `overhead` is what
flash holds beside the int8 weights, of ours over TFLite Micro's.

`answers` are on the row of the plain core, whose C is run here in 32 bits on all samples (the board's outputs are the
same on those that it runs): right ones of so many where there are labels, in parentheses ONNX Runtime's, else those
that are equal to ONNX Runtime's. Models that have no data of their own get noise. With `--ours` there are rows
for models that are quantised here, too. Needs the zoo, and for each core a compiler and QEMU.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphopt
from bench.common import Report, arguments, progress
from bench.mcu_answers import answers
from bench.mcu_cycles import modelled
from bench.mcu_emx import emx_bundle, emx_text
from bench.mcu_own import OWN, quantised_here
from bench.mcu_peers import EMX, FLOAT32, INT8
from bench.models import zoo_models
from bench.oracles import onnx_runtime
from bench.peers import PeerError
from bench.readme import README, mcu_table, write_section
from bench.tasks import samples
from graphopt.oracle import fixed_point_oracle
from graphopt.runtime.compare import compare_outputs
from graphopt.targets import emulator
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware.emulated import COUNTS, EmulatedFirmware
from graphopt.targets.instruction_counts import no_plugins, read_counts
from graphopt.verification import Run

ZOO_INT8 = {
    "resnet8": "mlperf_resnet8_int8_qdq_op13",
    "ds_cnn": "mlperf_kws_int8_qdq_op13",
    "vww": "mlperf_vww_96_int8_qdq_op13",
    "autoencoder": "mlperf_ad01_int8_qdq_op13",
}
"""TensorFlow Lite's own int8 files, as Q/DQ."""
ZOO_FLOAT = {
    "resnet8": "mlperf_resnet8_bn_op17",
    "ds_cnn": "mlperf_kws_bn_op17",
    "vww": "mlperf_vww96_bn_op17",
    "autoencoder": "mlperf_ad01_bn_op17",
}
CORES = (
    "cortex-m0plus", "cortex-m3", "cortex-m4f", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imac",
)  # fmt: skip
PLAIN, FLOAT_CORE, MEASURED_CORE = "cortex-m0plus", "cortex-m4f", "cortex-m4f"
"""Whose C any machine runs; that of float models; that of which RAM and flash of peers are known."""
EMX_CORES = ("cortex-m4f", "cortex-m55")
QUICK = ("ds_cnn", "autoencoder")
CLASSIFIERS = ("resnet8", "ds_cnn", "vww")
SAMPLES = 3
NAME = "net"
FLOAT_STEPS = 1e-4
"""Of an output's scale: what floats in another order may differ by."""
COLUMNS = (
    "model", "kind", "core", "exact", "M instr", "TFLM", "ratio", "emx",
    "M cycles", "best peer", "its", "cycle ratio", "flash", "weights", "overhead", "arena", "stack", "RAM",
    "RAM ratio", "answers",
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--model", action="append", help="only models whose name starts so")
    parser.add_argument("--core", action="append", help="only these targets")
    parser.add_argument("--ours", action="store_true", help="also models that are quantised here")
    parser.add_argument("--readme", action="store_true", help="write the table in README.md")
    options = parser.parse_args()
    if options.readme and (options.quick or options.model or options.core or options.ours):
        parser.error("--readme wants all models on all cores: leave the other options out")
    wanted = tuple(options.model or (QUICK if options.quick else ("",)))
    cores = tuple(options.core or ((MEASURED_CORE,) if options.quick else CORES))
    paths = {path.stem: path for path in zoo_models()}
    rows = [
        (name, paths[stem], kind, core)
        for kind, files in (("int8", ZOO_INT8), ("ours", OWN if options.ours else {}), ("float32", ZOO_FLOAT))
        for name, stem in files.items()
        if name.startswith(wanted) and stem in paths
        for core in (set(cores) & {FLOAT_CORE} if kind == "float32" else cores)
    ]
    if not rows:
        sys.exit("no such model in the zoo (GRAPHOPT_ZOO)")
    reasons = {core: missing(core) for core in cores}
    if any(reasons.values()):
        sys.exit("; ".join(reason for reason in reasons.values() if reason))
    title = "One inference, emulated: instructions are counted, cycles are modelled, neither is a time"
    report = Report(title, COLUMNS)
    absent: list[str] = []
    for name, path, kind, core in progress(rows, lambda row: " ".join((row[0], *row[2:]))):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            place = Path(folder)
            try:
                if kind == "float32":
                    report.add(**float_row(name, path, core, place, absent))
                else:
                    file = quantised_here(path, place) if kind == "ours" else path
                    report.add(**int8_row(name, file, core, place, absent, kind=kind))
            except graphopt.GraphoptError as error:
                report.add(model=name, kind=kind, core=core, exact=False)
                absent.append(f"{name}, {kind}, on {core}: {error}")
    report.figures = figures(report.rows)
    for reason in dict.fromkeys(absent):
        report.title += f"\n{reason}"
    report.finish(options.json)
    if options.readme:
        write_section(README, "bench.mcu", mcu_table(report))


def missing(core: str) -> str | None:
    """Why nothing can be counted on that core's board here; None when it can."""
    target = load_target(core)
    return emulator.missing(target) or no_plugins(target)


@dataclass(frozen=True)
class Taken:
    """What runs of one build took, each: instructions and cycles in millions, bytes; and the outputs."""

    instructions: float
    cycles: float
    flash: int
    stack: int
    ram: int
    outputs: list[dict[str, np.ndarray]]


def taken(bundle: Bundle, given: Sequence[Mapping[str, np.ndarray]], *, weights: str = "S") -> Taken:
    """Build the bundle once and run the samples on its board."""
    module = EmulatedFirmware(bundle, count=True, weights=weights)
    outputs = module.run(given)
    blocks = read_counts(module.program.with_name(COUNTS))
    cycles = (
        modelled(module.program, bundle.target, blocks, len(given)) if bundle.target.family == "arm" else 0.0
    )
    took = module.measured
    return Taken(
        took.total_instructions / 1e6,
        cycles / 1e6,
        took.flash_bytes,
        took.stack_bytes,
        took.ram_bytes,
        outputs,
    )


def compiled(path: Path, core: str, folder: Path) -> tuple[Bundle, list[dict[str, np.ndarray]]]:
    """The bundle, with default options, and a few samples that nothing is evaluated on."""
    bundle = graphopt.compile(path, target=core, out=folder / "firmware", name=NAME)
    return bundle, samples(path.stem, specs_of(bundle), split="calib", count=SAMPLES).inputs


def specs_of(bundle: Bundle) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    return {spec.name: (spec.dtype.numpy, spec.shape) for spec in bundle.abi.inputs}


def int8_row(
    name: str, path: Path, core: str, folder: Path, absent: list[str], *, kind: str = "int8"
) -> dict:
    """Ours beside the recorded TensorFlow Lite Micro and today's emx-onnx-cgen; what was quantised here on its own."""
    bundle, given = compiled(path, core, folder)
    took = taken(bundle, given)
    reference = fixed_point_oracle(graphopt.load(path), bundle.manifest["pipeline"])
    assert reference is not None
    exact = all(equal(reference.run(x), y) for x, y in zip(given, took.outputs, strict=True))
    weights = int8_weights(path)
    row = {"model": name, "kind": kind, "core": core, "exact": exact, "weights": weights}
    row |= {"M instr": took.instructions, "flash": took.flash, "stack": took.stack, "RAM": took.ram}
    row["arena"] = bundle.abi.workspace_bytes
    if kind != "int8":
        return row
    if core == PLAIN and name in CLASSIFIERS:
        row |= answers(path, bundle, specs_of(bundle), folder)
    if peer := INT8.get((name, core)):
        row |= {"TFLM": peer.instructions, "ratio": took.instructions / peer.instructions}
        if peer.ram and peer.flash:
            row["RAM ratio"] = took.ram / peer.ram
            row["overhead"] = (took.flash - weights) / (peer.flash - weights)
    if core in EMX_CORES:
        try:
            theirs = emx_bundle(emx_text(path, folder), bundle.abi.shapes[0], bundle.target, folder / "emx")
            row["emx"] = taken(theirs, given[:1], weights="c").instructions
        except (PeerError, graphopt.GraphoptError) as reason:
            absent.append(f"{name} on {core}: {reason}")
    return row


def float_row(name: str, path: Path, core: str, folder: Path, absent: list[str]) -> dict:
    """Cycles of ours beside those of the best peer, recorded or of today."""
    bundle, given = compiled(path, core, folder)
    took = taken(bundle, given)
    run = onnx_runtime(path)
    exact = all(near(run, x, y) for x, y in zip(given, took.outputs, strict=True))
    peers = {peer: recorded.cycles for peer, recorded in FLOAT32[name].items()}
    row = {
        "model": name,
        "kind": "float32",
        "core": core,
        "exact": exact,
        "M instr": took.instructions,
    }
    row |= {"M cycles": took.cycles, "flash": took.flash, "stack": took.stack, "RAM": took.ram}
    row["arena"] = bundle.abi.workspace_bytes
    try:
        theirs = emx_bundle(emx_text(path, folder), bundle.abi.shapes[0], bundle.target, folder / "emx")
        live = taken(theirs, given[:1], weights="c")
        peers[EMX] = min(live.cycles, peers[EMX])
        row["emx"] = live.instructions
        if not near(run, given[0], live.outputs[0]):
            absent.append(f"{EMX} gives other answers for {name}")
    except (PeerError, graphopt.GraphoptError) as reason:
        absent.append(f"{name} on {core}: {reason}")
    best = min(peers, key=lambda peer: peers[peer])
    return row | {
        "best peer": best,
        "its": peers[best],
        "cycle ratio": took.cycles / peers[best],
    }


def equal(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> bool:
    """Integers are the same, bit for bit; floats that a model ends in, such as a Softmax, up to their own rounding."""
    if any(array.dtype.kind != "f" and not np.array_equal(array, got[name]) for name, array in want.items()):
        return False
    return compare_outputs(want, got).worst <= FLOAT_STEPS


def near(run: Run, given: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> bool:
    return compare_outputs(run(given), got).worst <= FLOAT_STEPS


def int8_weights(path: Path) -> int:
    """Bytes of the int8 operands of convolutions and products, as the file stores them."""
    graph = graphopt.load(path)
    found = {
        value.name: value.constant.size
        for node in graph.nodes
        if node.is_op("DequantizeLinear")
        for value in node.inputs[:1]
        if value is not None and value.constant is not None and value.constant.dtype == np.int8
    }
    return sum(found.values())


def figures(rows: Sequence[Mapping]) -> dict[str, float]:
    """The share of builds that are exact, and the worst ratios."""
    quantised = [row for row in rows if row["kind"] != "float32"]
    found: dict[str, float] = {}
    if quantised:
        found["bit_exact"] = sum(row["exact"] for row in quantised) / len(quantised)
    for figure, core, column in (
        ("m4f_instructions_worst", "cortex-m4f", "ratio"),
        ("m55_instructions_worst", "cortex-m55", "ratio"),
        ("ram_worst", MEASURED_CORE, "RAM ratio"),
        ("flash_overhead_worst", MEASURED_CORE, "overhead"),
        ("m4f_float_worst", FLOAT_CORE, "cycle ratio"),
    ):
        ratios = [row[column] for row in rows if row["core"] == core and row.get(column) is not None]
        if ratios:
            found[figure] = max(ratios)
    lost = [row["lost"] for row in rows if "lost" in row]
    if lost:
        found["answers_lost_worst"] = max(lost)
    return found


if __name__ == "__main__":
    main()

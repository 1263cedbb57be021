"""How long a bundle takes on this machine, next to ONNX Runtime on the same inputs.

A shared machine is now fast and now slow, so that two runtimes measured one after the other cannot be
compared. Here they take turns in short blocks. The first run of a block, which finds cold caches and sleeping
threads, does not count.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import ToolchainError, UnsupportedError, UsageError
from graphopt.oracle import plain_refusal
from graphopt.runtime.compare import compare_outputs
from graphopt.runtime.manifest import runs_here

if TYPE_CHECKING:
    import onnxruntime

    from graphopt.roofline import Roofline
    from graphopt.targets.bundle import Bundle

Run = Callable[[], Mapping[str, np.ndarray]]
Progress = Callable[[str, int, int], None]

BLOCK_SECONDS = 0.05
"""How long one runtime runs before the next has its turn: longer than ONNX Runtime's threads spin idly."""

SMALLEST_ROUNDS = 3
"""Turns of each runtime, however short the time."""

OURS = "graphopt"
PEER = "ONNX Runtime"


@dataclass(frozen=True)
class Latency:
    """Seconds of each counted run of `runtime` on so many threads; from arrays to new arrays."""

    runtime: str
    threads: int
    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Benchmark:
    """Latencies in the order of measurement; `worst_error` compares the outputs, as a share of their scale.

    It is None without a peer.
    """

    latencies: tuple[Latency, ...]
    worst_error: float | None

    def of(self, runtime: str, threads: int) -> Latency:
        return next(l for l in self.latencies if (l.runtime, l.threads) == (runtime, threads))

    def speedup(self, threads: int) -> float | None:
        """ONNX Runtime's median over ours: above 1 we are faster. None without a peer."""
        if self.worst_error is None:
            return None
        return self.of(PEER, threads).median / self.of(OURS, threads).median


def benchmark_bundle(
    bundle: str | Path,
    *,
    threads: Sequence[int] = (),
    seconds: float = 2.0,
    against: str | Path | None = None,
    shape: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure `bundle` for about `seconds` at each number of `threads` (none: the bundle's own).

    `against` is the model that ONNX Runtime runs on the same random inputs. `shape` is the number of a shape that
    the bundle was compiled for. Raises UsageError for a bundle of another machine, ToolchainError where ONNX
    Runtime is missing, UnsupportedError where it cannot run the model.
    """
    from graphopt.runtime.manifest import module_info, read_manifest
    from graphopt.verification import random_sample

    info = module_info(read_manifest(Path(bundle)))
    reason = runs_here(info.target)
    if reason:
        raise UsageError(
            f"it is for {info.target['name']}, and {reason}: an emulator can count instructions, not time",
            where=str(bundle),
            hint="copy the folder to the device and run `./example --repeat 100` there",
        )
    counts = tuple(dict.fromkeys(threads)) or (info.default_threads,)
    if not 0 <= shape < len(info.shapes):
        listed = "; ".join(f"{n}: {', '.join(map(str, s.inputs))}" for n, s in enumerate(info.shapes))
        raise UsageError(f"it has no shape {shape}", where=str(bundle), hint=f"its shapes: {listed}")
    inputs = random_sample(info.shapes[shape].inputs, seed)
    runs: dict[tuple[str, int], Run] = {}
    for count in counts:
        runs[OURS, count] = _ours(bundle, count, inputs)
        if against is not None:
            runs[PEER, count] = _peer(Path(against), count, inputs)
    error = None
    if against is not None:
        count = counts[0]
        error = compare_outputs(runs[PEER, count](), runs[OURS, count]()).worst
    taken = measure(runs, seconds * len(counts), progress)
    return Benchmark(tuple(Latency(*key, tuple(times)) for key, times in taken.items()), error)


@dataclass(frozen=True)
class LayerTime:
    """The least seconds of a layer over several runs, and what report.json tells of it."""

    seconds: float
    layer: Mapping[str, Any]

    @property
    def flops(self) -> float | None:
        """Operations a second; None for a layer whose work is not known."""
        count = self.layer["flops"]
        return count / self.seconds if count and self.seconds else None

    def share_of(self, roofline: Roofline) -> float | None:
        """How close it comes to what this machine could do on its work and its bytes."""
        if self.flops is None:
            return None
        moved = sum(self.layer[k] for k in ("weights_bytes", "read_bytes", "written_bytes"))
        return self.flops / roofline.attainable(self.layer["flops"], moved)


def layer_times(
    bundle: str | Path,
    *,
    threads: int = 1,
    seconds: float = 2.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[LayerTime]:
    """Where the time goes, layer by layer, in a bundle that was compiled with `profile`. Raises UsageError."""
    from graphopt.runtime.module import Module
    from graphopt.verification import random_sample

    module = Module(bundle)
    module.set_num_threads(threads)
    inputs = random_sample(module.info.inputs, seed)
    report = json.loads((Path(bundle) / "report.json").read_text(encoding="utf-8"))
    best = module.profile(inputs)
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        best = np.minimum(best, module.profile(inputs))
        if progress:
            progress("measuring layers", round(passed * 10), round(seconds * 10))
    return [LayerTime(float(ns) * 1e-9, layer) for ns, layer in zip(best, report["layers"], strict=True)]


def save_layer_times(
    bundle: str | Path, times: Sequence[LayerTime], roofline: Roofline, threads: int
) -> Bundle:
    """Add `measured` to each layer of the bundle's `report.json`, and `measured_on`.

    Raises UsageError when the bundle cannot be written.
    """
    from graphopt.targets.bundle import Bundle, with_report

    opened = Bundle.open(bundle)
    report = dict(opened.report)
    report["layers"] = [
        {
            **entry.layer,
            "measured": {
                "seconds": entry.seconds,
                "flops_per_second": entry.flops,
                "of_roofline": entry.share_of(roofline),
            },
        }
        for entry in times
    ]
    machine = {"threads": threads, "flops": roofline.flops, "bytes_per_second": roofline.bandwidth}
    report["measured_on"] = machine
    return with_report(opened, report)


def measure(
    runs: Mapping[tuple[str, int], Run], seconds: float, progress: Progress | None = None
) -> dict[tuple[str, int], list[float]]:
    """Seconds of every counted run; the contenders take turns until `seconds` are over."""
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    start = time.perf_counter()
    rounds = 0
    while rounds < SMALLEST_ROUNDS or time.perf_counter() - start < seconds:
        for key, run in runs.items():
            taken[key] += _block(run)
        rounds += 1
        if progress:
            passed = min(time.perf_counter() - start, seconds)
            progress("measuring", round(passed * 10), round(seconds * 10))
    return taken


def _block(run: Run) -> list[float]:
    run()
    times: list[float] = []
    end = time.perf_counter() + BLOCK_SECONDS
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def _ours(bundle: str | Path, threads: int, inputs: Mapping[str, np.ndarray]) -> Run:
    from graphopt.runtime.module import Module

    module = Module(bundle)
    module.set_num_threads(threads)
    return lambda: module(inputs)


def _peer(model: Path, threads: int, inputs: Mapping[str, np.ndarray]) -> Run:
    """ONNX Runtime at its best: every optimisation, the same number of threads."""
    session = _session(model, threads)
    names = [output.name for output in session.get_outputs()]
    wanted = {entry.name for entry in session.get_inputs()}
    given = {name: array for name, array in inputs.items() if name in wanted}
    return lambda: dict(zip(names, session.run(names, given), strict=True))


def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    from graphopt.api import load

    load(model)  # tells what is wrong with the file better than anyone
    try:
        import onnxruntime
    except ImportError:
        hint = "pip install onnxruntime"
        raise ToolchainError("ONNX Runtime is not installed", where="--against", hint=hint) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # C++ exceptions without a common base
        reason = f"ONNX Runtime refuses the file: {plain_refusal(error)}"
        raise UnsupportedError(reason, where=str(model), hint="measure without --against") from None

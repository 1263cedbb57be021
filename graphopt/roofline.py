"""What this machine can do at most: multiply-adds, and bytes from memory, in a second.

A layer can be no faster than the slower of the two lets it be: min(peak, bandwidth x intensity), with the intensity
in operations per byte moved. Both limits are measured by kernels of our own that do nothing else. Source: Williams
et al., "Roofline: an insightful visual performance model for multicore architectures", 2009.
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

SUMS = 12
"""Accumulators: enough to hide the latency, few enough for any register file."""

STEPS = 1_000_000
STREAM_BYTES = 1 << 28
"""More than caches hold."""

SECONDS = 0.5


@dataclass(frozen=True)
class Roofline:
    """`flops`: float32 operations a second, two for each multiply-add; `bandwidth`: bytes read a second."""

    flops: float
    bandwidth: float

    def attainable(self, flops: float, moved: float) -> float:
        """Operations a second that work of `flops` operations on `moved` bytes can reach."""
        return min(self.flops, self.bandwidth * flops / moved) if moved else self.flops


def measure_roofline(threads: int) -> Roofline:
    """Measure this machine on so many threads; takes about a second."""
    from graphopt.targets.device import load_target

    lanes = load_target("host").vector_bits // 32
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        library = _library(Path(folder), lanes)
        peak, stream = library.peak, library.stream
        operands = (ctypes.c_float * (2 * lanes))(*[1e-3] * (2 * lanes))
        results = [(ctypes.c_float * (SUMS * lanes))() for _ in range(threads)]
        work: list[Callable[[], object]] = [partial(peak, operands, result) for result in results]
        arithmetic = 2 * threads * STEPS * SUMS * lanes / _least_seconds(work)
        source = np.ones(STREAM_BYTES // 4, np.float32)
        share = STREAM_BYTES // threads
        starts = [source.ctypes.data + number * share for number in range(threads)]
        count = share // (4 * lanes * SUMS)
        work = [
            partial(stream, ctypes.c_void_p(start), result, count)
            for start, result in zip(starts, results, strict=True)
        ]
        moved = threads * count * 4 * lanes * SUMS
        return Roofline(arithmetic, moved / _least_seconds(work))


def _least_seconds(work: list[Callable[[], object]]) -> float:
    """The least time in which all of `work` is done at once."""
    best = float("inf")
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        best = min(best, _seconds(work))
    return best


def _seconds(work: list[Callable[[], object]]) -> float:
    """From when the threads are there, for starting one takes as long as a tenth of the work; ctypes lets go of the
    interpreter's lock."""
    begun, done = [], []
    ready = threading.Barrier(len(work))

    def timed(function: Callable[[], object]) -> None:
        ready.wait()
        begun.append(time.perf_counter())
        function()
        done.append(time.perf_counter())

    workers = [threading.Thread(target=timed, args=(function,)) for function in work[1:]]
    for worker in workers:
        worker.start()
    timed(work[0])
    for worker in workers:
        worker.join()
    return max(done) - min(begun)


def _library(folder: Path, lanes: int) -> ctypes.CDLL:
    """`peak(x, y)`: STEPS multiply-adds on each of SUMS vectors. `stream(x, y, n)`: adds up n * SUMS vectors."""
    from graphopt.targets.device import load_target
    from graphopt.targets.toolchain import Toolchain

    target = load_target("host")
    (folder / "roofline.c").write_text(_source(lanes))
    Toolchain().link_shared(
        [folder / "roofline.c"], folder / "libroofline.so", target, exports=["peak", "stream"], tuned=True
    )
    return ctypes.CDLL(str(folder / "libroofline.so"))


def _source(lanes: int) -> str:
    return f"""
#define API __attribute__((visibility("default")))
typedef float vector __attribute__((vector_size({4 * lanes}), aligned(4)));
API void peak(const float *x, float *y) {{
    const vector a = *(const vector *)x, b = *(const vector *)(x + {lanes});
    vector sums[{SUMS}];
    for (int i = 0; i < {SUMS}; ++i) sums[i] = a * (float)i;
    for (int step = 0; step < {STEPS}; ++step)
        for (int i = 0; i < {SUMS}; ++i) sums[i] = sums[i] * a + b;
    for (int i = 0; i < {SUMS}; ++i) *(vector *)(y + i * {lanes}) = sums[i];
}}
API void stream(const float *x, float *y, int count) {{
    vector sums[{SUMS}] = {{0}};
    for (int n = 0; n < count; ++n)
        for (int i = 0; i < {SUMS}; ++i) sums[i] += *(const vector *)(x + (n * {SUMS} + i) * {lanes});
    for (int i = 0; i < {SUMS}; ++i) *(vector *)(y + i * {lanes}) = sums[i];
}}
"""

"""How many multiply-adds this machine can do: a kernel of our own that does nothing else."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.targets.codegen import compile_kernels
from graphopt.targets.device import load_target

SUMS = 12
"""Accumulators: enough to hide the latency, few enough for any register file."""

STEPS = 200_000
SECONDS = 0.5


def flops_per_second(threads: int) -> float:
    """The most float32 operations a second on so many threads, two for each multiply-add."""
    target = load_target("host")
    lanes = target.vector_bits // 32
    with tempfile.TemporaryDirectory() as folder:
        library = _library(Path(folder), lanes)
        operands = (ctypes.c_float * (2 * lanes))(*[1e-3] * (2 * lanes))
        results = [(ctypes.c_float * (SUMS * lanes))() for _ in range(threads)]
        best = float("inf")
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            workers = [threading.Thread(target=library.peak, args=(operands, result)) for result in results]
            start = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            best = min(best, time.perf_counter() - start)
    return 2 * threads * STEPS * SUMS * lanes / best


def _library(folder: Path, lanes: int) -> ctypes.CDLL:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("peak")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((2 * lanes,), "float32"))
        y = T.arg("y", T.buffer((SUMS * lanes,), "float32"))
        sums = T.alloc_buffer((SUMS * lanes,), "float32", scope="local")
        for number in range(SUMS):
            with T.vectorized(lanes) as lane:
                T.buffer_store(sums, x[lane], [number * lanes + lane])
        with T.serial(STEPS):
            for number in range(SUMS):
                with T.vectorized(lanes) as lane:
                    place = number * lanes + lane
                    T.buffer_store(sums, sums[place] * x[lane] + x[lanes + lane], [place])
        for number in range(SUMS):
            with T.vectorized(lanes) as lane:
                T.buffer_store(y, sums[number * lanes + lane], [number * lanes + lane])
    made = compile_kernels({"peak": builder.get()}, load_target("host"))
    (folder / "peak.o").write_bytes(made.object_bytes)
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-o", "libpeak.so", "peak.o"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return ctypes.CDLL(str(folder / "libpeak.so"))

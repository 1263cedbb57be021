"""Kernels written statement by statement, printed as C, compiled for this machine and called."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as B

from graphopt.targets.firmware.kernels import CKernels, print_kernels
from tests.targets.firmware.conftest import STRICT

Statements = Callable[..., None]


def kernel(build: Statements, *parameters: tuple[int, str]) -> CKernels:
    """The kernel `f`, whose statements `build` writes on buffers of so many elements. The last is its output."""
    with IRBuilder() as builder, B.prim_func(s_tir=True):
        B.func_name("main")
        B.func_attr({"tirx.noalias": True})
        build(*(B.arg(f"p{n}", B.buffer((size,), kind)) for n, (size, kind) in enumerate(parameters)))
    operands = {"f": range(len(parameters) - 1)}
    return print_kernels({"f": builder.get()}, "thumbv7m-none-eabi", operands)


def run(kernels: CKernels, folder: Path, *arrays: np.ndarray) -> None:
    """Compile the text for this machine, without a warning, and call it."""
    (folder / "f_internal.h").write_text("#include <stdint.h>\n" + "\n".join(kernels.prototypes()) + "\n")
    (folder / "f.c").write_text(kernels.text("f"))
    command = [sys.executable, "-m", "ziglang", "cc", *STRICT, "-O1", "-shared", "-fPIC", "f.c", "-o", "f.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ctypes.CDLL(str(folder / "f.so")).f(*(a.ctypes.data_as(ctypes.c_void_p) for a in arrays))

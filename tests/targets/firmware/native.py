"""A firmware bundle's sources, run on this machine."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np

from graphopt.targets.bundle import Bundle
from tests.targets.firmware.conftest import STRICT

Arrays = dict[str, np.ndarray]


def here(bundle: Bundle, inputs: Arrays, folder: Path) -> Arrays:
    """What the bundle's sources compute on this machine, compiled without a warning."""
    name = bundle.abi.name
    sources = [f"{name}.c", f"{name}_kernels.c", f"{name}_weights.c"]
    command = [sys.executable, "-m", "ziglang", "cc", *STRICT, "-O1", "-shared", "-fPIC", *sources]
    library = folder / "net.so"
    done = subprocess.run([*command, "-o", str(library)], cwd=bundle.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    outputs = {spec.name: np.zeros(spec.shape, spec.dtype.numpy) for spec in bundle.abi.outputs}
    arena = np.zeros(bundle.abi.workspace_bytes + 64, np.uint8)
    start = -arena.ctypes.data % 64
    given = [np.ascontiguousarray(inputs[spec.name]) for spec in bundle.abi.inputs]
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*given, *outputs.values(), arena[start:])]
    size = ctypes.c_size_t(bundle.abi.workspace_bytes)
    assert getattr(ctypes.CDLL(str(library)), f"{name}_run")(*pointers, size) == 0
    return outputs

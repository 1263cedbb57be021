"""Running what `compile_model` made, without a bundle: on two threads, with memory that is full of something else."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphopt.targets.aot import CompiledModel

THREADS = 2


def run_compiled(
    compiled: CompiledModel, inputs: Mapping[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """Outputs by name; they and the workspace are full of ones before, NaN where they are floats. The library is
    written to `folder`."""
    path = folder / f"lib{compiled.abi.name}.so"
    path.write_bytes(compiled.library)
    given = [np.ascontiguousarray(inputs[spec.name]) for spec in compiled.abi.inputs]
    made = [np.empty(spec.shape, spec.dtype.numpy) for spec in compiled.abi.outputs]
    for array in made:
        array.reshape(-1).view(np.uint8)[:] = 0xFF
    workspace = np.full(compiled.abi.workspace_bytes + 64, 0xFF, np.uint8)
    start = workspace.ctypes.data + -workspace.ctypes.data % 64
    size = ctypes.c_size_t(compiled.abi.workspace_bytes)
    failed = ctypes.CDLL(str(path))[f"{compiled.abi.name}_run"](
        _pointers(given), _pointers(made), ctypes.c_void_p(start), size, ctypes.c_int(THREADS)
    )
    assert failed == 0
    return {spec.name: array for spec, array in zip(compiled.abi.outputs, made, strict=True)}


def _pointers(arrays: list[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))

"""Casts between floats and 64-bit integers, which a 32-bit processor does by functions that the library brings."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType, Graph, Origin, TensorType
from graphopt.rewrite import Builder
from graphopt.verification import runner
from tests.targets.conftest import runnable

FLOATS = (DType.float32, DType.float64)
LONGS = (DType.int64, DType.uint64)
VALUES = np.array([0.0, 1.75, 3e9, 2.0**40 + 2.0**18])
"""Exact in float32; the last two need more than 31 bits."""


@pytest.mark.parametrize("target", [pytest.param("rpi-armv7", marks=runnable("rpi-armv7"))])
def test_every_pair_converts(target: str, tmp_path: Path) -> None:
    graph = Graph("conversions", opset=24)
    build = Builder(graph, None, Origin())
    inputs, wanted = {}, {}
    for float_, long in itertools.product(FLOATS, LONGS):
        for source, result in ((float_, long), (long, float_)):
            name = f"{source}_to_{result}"
            inputs[name] = VALUES.astype(source.numpy)
            wanted[f"{name}_y"] = inputs[name].astype(result.numpy)
            x = graph.add_input(name, TensorType(source, VALUES.shape))
            graph.add_output(build.op("Cast", x, to=result.onnx_code), f"{name}_y")
    run, _ = runner(graphopt.compile(graph, target=target, out=tmp_path / "conversions.bundle"))
    outputs = run(inputs)
    for name, want in wanted.items():
        np.testing.assert_array_equal(outputs[name], want, err_msg=name)

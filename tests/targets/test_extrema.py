"""Max, Min, Relu and Clip on 64-bit ARM: NaN stays, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.targets.emulated import EmulatedModule
from tests.targets.conftest import runnable

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 7.0], np.float32)
A, B = (np.ascontiguousarray(grid).reshape(-1) for grid in np.meshgrid(SPECIAL, SPECIAL))


@pytest.mark.parametrize("name", [pytest.param("rpi4", marks=runnable("rpi4"))])
def test_nan_stays(name: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Max", ["a", "b"], ["larger"]),
        helper.make_node("Min", ["a", "b"], ["smaller"]),
        helper.make_node("Relu", ["a"], ["positive"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["clipped"]),
    ]
    expected = {
        "larger": np.maximum(A, B),
        "smaller": np.minimum(A, B),
        "positive": np.maximum(A, np.float32(0)),
        "clipped": np.clip(A, np.float32(0), np.float32(6)),
    }
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, A.shape) for n in ("a", "b", *expected)]
    limits = [numpy_helper.from_array(np.float32(limit), n) for n, limit in (("zero", 0), ("six", 6))]
    graph = helper.make_graph(nodes, "extrema", tensors[:2], tensors[2:], limits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bundle = graphopt.compile(model, target=name, out=tmp_path / "extrema.bundle")
    outputs = EmulatedModule(bundle)({"a": A, "b": B})
    for output, right in expected.items():
        np.testing.assert_array_equal(outputs[output], right)

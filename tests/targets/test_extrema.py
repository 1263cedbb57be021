"""Maxima and minima: NaN and the infinities stay, on this machine and on 64-bit ARM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.targets.emulated import EmulatedModule
from tests.targets.conftest import runnable
from tests.targets.lower.kernels import assert_same, case, run_cases

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 7.0], np.float32)
A, B = (np.repeat(grid, 5, axis=1) for grid in np.meshgrid(SPECIAL, SPECIAL))


@pytest.mark.parametrize("name", ["host", pytest.param("rpi4", marks=runnable("rpi4"))])
def test_nan_and_infinities_stay(name: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Max", ["a", "b"], ["larger"]),
        helper.make_node("Min", ["a", "b"], ["smaller"]),
        helper.make_node("ReduceMax", ["b", "axis"], ["top"]),
        helper.make_node("ReduceMin", ["b", "axis"], ["bottom"]),
        helper.make_node("ReduceMax", ["b"], ["of_all"]),
        helper.make_node("Conv", ["image", "ones", "bias"], ["dark"]),
        helper.make_node("MaxPool", ["dark"], ["pooled"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("GlobalMaxPool", ["dark"], ["darkest"]),
        helper.make_node("Relu", ["a"], ["positive"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["clipped"]),
    ]
    expected = {
        "larger": np.maximum(A, B),
        "smaller": np.minimum(A, B),
        "top": np.max(B, axis=1, keepdims=True),
        "bottom": np.min(B, axis=1, keepdims=True),
        "of_all": np.max(B, keepdims=True),
        "pooled": np.full((1, 16, 4, 5), -np.inf),
        "darkest": np.full((1, 16, 1, 1), -np.inf),
        "positive": np.maximum(A, np.float32(0)),
        "clipped": np.clip(A, np.float32(0), np.float32(6)),
    }
    image = np.zeros((1, 3, 8, 9), np.float32)
    tensors = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None if n in expected else A.shape)
        for n in ("a", "b", *expected)
    ]
    constants = [numpy_helper.from_array(np.float32(limit), n) for n, limit in (("zero", 0), ("six", 6))]
    constants.append(numpy_helper.from_array(np.array([1]), "axis"))
    constants.append(numpy_helper.from_array(np.ones((16, 3, 1, 1), np.float32), "ones"))
    constants.append(numpy_helper.from_array(np.full(16, -np.inf, np.float32), "bias"))
    inputs = [*tensors[:2], helper.make_tensor_value_info("image", TensorProto.FLOAT, image.shape)]
    graph = helper.make_graph(nodes, "extrema", inputs, tensors[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    bundle = graphopt.compile(model, target=name, out=tmp_path / "extrema.bundle")
    outputs = EmulatedModule(bundle)({"a": A, "b": B, "image": image})
    for output, right in expected.items():
        np.testing.assert_array_equal(outputs[output], right)


LOWEST = np.full((2, 5, 40), -np.inf, np.float32)

POOLS = [
    case("MaxPool", LOWEST[None], kernel_shape=(3, 2), pads=(1, 1, 0, 0), expected=[LOWEST[None, :, :4]]),
    case(
        "MaxPool", LOWEST.astype(np.float16), kernel_shape=(2,), expected=[LOWEST[..., 1:].astype(np.float16)]
    ),
    case("MaxPool", np.full((1, 1, 4), -128, np.int8), kernel_shape=(2,)),
    case("GlobalMaxPool", LOWEST[None], expected=[LOWEST[None, :, :1, :1]]),
    case("ReduceMax", LOWEST, [1, 2]),
    case("ReduceMin", -LOWEST, [0]),
    case("ReduceMax", LOWEST[:, :0], [1]),
    case("ReduceMin", LOWEST[:, :0], [1]),
]


def test_nothing_is_lower_than_minus_infinity() -> None:
    for result, item in zip(run_cases(POOLS), POOLS, strict=True):
        assert_same(result, item)

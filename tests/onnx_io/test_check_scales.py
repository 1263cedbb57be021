"""Scales that quantise nothing are refused by name when a model is read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.onnx_io.read import read_model


def quantised(scale: object) -> onnx.ModelProto:
    """Two channels through QuantizeLinear, a scale for each."""
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "steps", "zeros"], ["y"], axis=1)],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor_value_info("y", TensorProto.INT8, (1, 2))],
        [
            numpy_helper.from_array(np.asarray(scale, np.float32), "steps"),
            numpy_helper.from_array(np.zeros(2, np.int8), "zeros"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("bad", [0.0, -0.0, 1e-41, -0.5, np.nan, np.inf])
def test_a_scale_that_is_none_is_named(bad: float) -> None:
    with pytest.raises(ModelError, match="scale 'steps' of node .* is "):
        read_model(quantised([0.5, bad]))


def test_the_smallest_normal_number_will_do() -> None:
    assert read_model(quantised([0.5, np.finfo(np.float32).tiny])).nodes

"""The numpy convolutions and pools against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Attribute, DType, Graph, Node, TensorType
from graphopt.onnx_io.infer import infer_outputs
from graphopt.onnx_io.write import to_model
from graphopt.runtime.reference import run

onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is ONNX Runtime")

Attributes = dict[str, Attribute]

CONV: dict[str, tuple[tuple[int, ...], tuple[int, ...], Attributes]] = {
    "plain": ((2, 3, 4, 5), (2, 3, 3, 3), {}),
    "one axis": ((1, 2, 6), (3, 2, 4), {"strides": (3,), "pads": (1, 2)}),
    "three axes": ((1, 2, 4, 4, 4), (2, 2, 2, 2, 2), {"strides": (2, 1, 2)}),
    "groups": ((1, 6, 4, 4), (9, 2, 3, 2), {"group": 3, "dilations": (1, 2)}),
    "same upper": ((1, 2, 5, 4), (2, 2, 4, 3), {"strides": (2, 2), "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 2, 5, 4), (2, 2, 4, 3), {"strides": (2, 2), "auto_pad": "SAME_LOWER"}),
}

TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], Attributes]] = {
    "plain": ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    "one axis": ((1, 2, 6), (2, 3, 4), {"strides": (3,), "pads": (1, 2)}),
    "three axes": ((1, 2, 3, 2, 2), (2, 2, 2, 2, 2), {"strides": (2, 1, 2)}),
    "groups": ((1, 6, 4, 4), (6, 2, 3, 2), {"group": 3, "strides": (2, 2)}),
    "depthwise": ((1, 4, 3, 3), (4, 1, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    "dilated": ((1, 2, 4, 4), (2, 2, 3, 3), {"dilations": (2, 3)}),
    "output padding": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_padding": (2, 1)}),
    "output shape": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (8, 6)}),
    "same upper": ((1, 2, 3, 4), (2, 2, 4, 3), {"strides": (1, 2), "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 2, 3, 4), (2, 2, 4, 3), {"strides": (1, 2), "auto_pad": "SAME_LOWER"}),
    "valid": ((1, 2, 3, 3), (2, 2, 2, 2), {"auto_pad": "VALID"}),
}

POOL: dict[str, tuple[tuple[int, ...], Attributes]] = {
    "plain": ((2, 3, 4, 5), {"kernel_shape": (3, 2)}),
    "one axis": ((1, 2, 7), {"kernel_shape": (3,), "strides": (2,)}),
    "three axes": ((1, 2, 4, 3, 5), {"kernel_shape": (2, 2, 3), "strides": (2, 1, 1)}),
    "uneven pads": ((1, 2, 5, 6), {"kernel_shape": (3, 3), "pads": (0, 2, 1, 0)}),
    "ceiling": ((1, 2, 6, 7), {"kernel_shape": (3, 2), "strides": (2, 3), "ceil_mode": 1}),
    "ceiling, padded": (
        (1, 2, 6, 5),
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil_mode": 1},
    ),
    "no window of pads alone": (
        (1, 1, 2, 3),
        {"kernel_shape": (1, 1), "strides": (2, 2), "pads": (0, 0, 0, 0), "ceil_mode": 1},
    ),
    "dilated": ((1, 2, 7, 7), {"kernel_shape": (2, 3), "dilations": (3, 2)}),
    "same upper": ((1, 2, 5, 6), {"kernel_shape": (3, 2), "strides": (2, 1), "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 2, 5, 6), {"kernel_shape": (3, 2), "strides": (2, 1), "auto_pad": "SAME_LOWER"}),
}


def check(
    op_type: str, shape: tuple[int, ...], weights: list[tuple[int, ...]], attributes: Attributes
) -> Node:
    """Each output is a sum of at most 64 products, so both sums are within 64 units in the last place."""
    random = np.random.default_rng(0)
    graph = Graph("case", opset=21)
    operands = [graph.add_input("x", TensorType(DType.float32, shape))]
    operands += [graph.add_constant(random.normal(size=s).astype(np.float32), "w") for s in weights]
    node = graph.add(op_type, operands, attributes)
    (node.output.type,) = infer_outputs(node)
    graph.add_output(node.output, "y")
    inputs = {"x": random.normal(size=shape).astype(np.float32)}
    (want,) = onnxruntime.InferenceSession(to_model(graph).SerializeToString()).run(None, inputs)
    got = run(graph, inputs)["y"]
    assert got.shape == want.shape and got.dtype == want.dtype
    assert np.abs(got - want).max() <= 64 * np.finfo(np.float32).eps * np.abs(want).max()
    return node


@pytest.mark.parametrize("case", CONV)
def test_conv(case: str) -> None:
    shape, weights, attributes = CONV[case]
    check("Conv", shape, [weights, weights[:1]], attributes)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case: str) -> None:
    shape, weights, attributes = TRANSPOSED[case]
    maps = weights[1] * int(attributes.get("group", 1))  # type: ignore[arg-type]
    check("ConvTranspose", shape, [weights, (maps,)], attributes)


@pytest.mark.parametrize("case", POOL)
def test_max_pool(case: str) -> None:
    check("MaxPool", POOL[case][0], [], POOL[case][1])


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("case", POOL)
def test_average_pool(case: str, include: int) -> None:
    check("AveragePool", POOL[case][0], [], {**POOL[case][1], "count_include_pad": include})

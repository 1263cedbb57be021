"""Convolutions by taps: what the reference makes, within the rounding of sums in another order."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Node
from graphopt.runtime.reference import evaluate_node
from graphopt.runtime.stacked_conv import conv_by_taps
from tests.passes.helpers import made

EPSILON = float(np.finfo(np.float32).eps)

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    "dense": ((3, 7, 6), (5, 3, 3, 2), {}),
    "one pixel": ((4, 5, 5), (6, 4, 1, 1), {}),
    "one pixel, strides": ((4, 5, 6), (6, 4, 1, 1), {"strides": (2, 3)}),
    "pads": ((3, 7, 6), (5, 3, 3, 3), {"pads": (1, 0, 2, 1)}),
    "dilations": ((3, 9, 8), (5, 3, 3, 2), {"dilations": (2, 3), "pads": (1, 1, 1, 1)}),
    "strides": ((3, 9, 8), (5, 3, 3, 3), {"strides": (2, 1), "pads": (1, 1, 1, 1)}),
    "auto_pad": ((3, 8, 7), (5, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": (2, 2)}),
    "as large as the image": ((3, 4, 5), (2, 3, 4, 5), {}),
    "depthwise": ((6, 7, 6), (6, 1, 3, 3), {"group": 6, "pads": (1, 1, 1, 1)}),
    "depthwise, strides": ((6, 7, 6), (6, 1, 3, 3), {"group": 6, "strides": (2, 2), "dilations": (1, 2)}),
    "two of each channel": ((3, 7, 6), (6, 1, 3, 3), {"group": 3, "pads": (0, 1, 0, 1)}),
}


def layer(shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, object]) -> Node:
    graph = made(
        lambda g: g.op("Conv", g.input(1, *shape), g.weight(*weights), g.weight(weights[0]), **attributes)
    )
    return next(iter(graph.nodes))


def operands(node: Node) -> tuple[np.ndarray, np.ndarray]:
    weights, bias = (value.constant for value in node.inputs[1:] if value is not None)
    assert weights is not None and bias is not None
    return weights, bias


@pytest.mark.parametrize("chunk", [1, 1 << 17])
@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(case: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.runtime.stacked_conv.CHUNK", chunk)
    node = layer(*CASES[case])
    weights, bias = operands(node)
    x = np.random.default_rng(3).normal(size=(5, *CASES[case][0])).astype(np.float32)
    wanted, sizes = (
        evaluate_node(node, arrays, as_declared=False)[0]
        for arrays in ((x, weights, bias), (np.abs(x), np.abs(weights), np.abs(bias)))
    )
    got = conv_by_taps(node, x, weights, bias)
    assert got is not None and got.shape == wanted.shape and got.dtype == np.float32
    terms = weights[0].size + 1
    assert (np.abs(got - wanted) <= 2 * terms * EPSILON * sizes).all()


@pytest.mark.parametrize(
    ("shape", "weights", "group"),
    [((4, 6, 6), (6, 2, 3, 3), 2), ((4, 9), (4, 1, 3), 4), ((4, 9), (2, 4, 3), 1)],
)
def test_others_are_left_to_the_reference(
    shape: tuple[int, ...], weights: tuple[int, ...], group: int
) -> None:
    node = layer(shape, weights, {"group": group})
    assert conv_by_taps(node, np.zeros((2, *shape), np.float32), *operands(node)) is None

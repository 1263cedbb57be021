"""Zero points that are known at run time alone: the same sums, with what they are multiplied with taken off."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "lower-integer"
PRODUCT, OPERATOR = "lower-dynamic-product", "lower-integer-operator"


def integers(g: Draft, *shape: int) -> Value:
    return g.const(g.random.integers(-127, 128, shape), np.int8)


def weights(g: Draft, *shape: int, axis: int) -> Value:
    scale = g.random.uniform(0.001, 0.02, shape[axis])
    return g.op("DequantizeLinear", integers(g, *shape), g.const(scale), axis=axis)


def dynamic(g: Draft, *shape: int) -> Value:
    return g.op("DequantizeLinear", *g.ops("DynamicQuantizeLinear", g.input(*shape), outputs=3))


def image(g: Draft) -> Value:
    return g.input(1, 3, 5, 4, dtype=DType.uint8)


def zero(g: Draft) -> Value:
    return g.input(dtype=DType.uint8)


def product(g: Draft) -> Value:
    return g.op("MatMul", dynamic(g, 2, 3, 6), weights(g, 6, 4, axis=1))


def gemm(g: Draft) -> Value:
    return g.op("Gemm", dynamic(g, 2, 6), weights(g, 4, 6, axis=0), g.weight(4), transB=1)


def conv(g: Draft) -> Value:
    return g.op("Conv", dynamic(g, 1, 3, 5, 5), weights(g, 2, 3, 2, 2, axis=0), g.weight(2))


def conv_at_borders(g: Draft) -> Value:
    """What lies outside the image has no zero point."""
    return g.op("ConvInteger", image(g), integers(g, 4, 3, 3, 3), zero(g), pads=(1, 1, 1, 1))


def conv_in_groups(g: Draft) -> Value:
    y = g.const(g.random.integers(-9, 9, 6), np.int8)
    return g.op("ConvInteger", image(g), integers(g, 6, 1, 2, 2), g.const(5, np.uint8), y, group=3)


def matmul(g: Draft) -> Value:
    x, y = g.input(3, 5, dtype=DType.uint8), g.const(-100, np.int8)
    return g.op("MatMulInteger", x, integers(g, 5, 2), zero(g), y)


def row_by_matrix(g: Draft) -> Value:
    return g.op("MatMulInteger", g.input(5, dtype=DType.uint8), integers(g, 5, 2), zero(g))


@pytest.mark.parametrize(
    ("rule", "build", "tolerance"),
    [
        (PRODUCT, product, None),
        (PRODUCT, gemm, None),
        (PRODUCT, conv, None),
        (OPERATOR, conv_at_borders, 0.0),
        (OPERATOR, conv_in_groups, 0.0),
        (OPERATOR, matmul, 0.0),
        (OPERATOR, row_by_matrix, 0.0),
    ],
)
def test_lowers(rule: str, build: Build, tolerance: float | None, update_golden: bool) -> None:
    golden = f"dynamic_{build.__name__}"
    check_fires(PASS, rule, build, golden, update_golden, tolerance=tolerance, exported=False)


def zero_by_row(g: Draft) -> Value:
    return g.op(
        "MatMulInteger", g.input(3, 5, dtype=DType.uint8), integers(g, 5, 2), g.input(3, dtype=DType.uint8)
    )


def doubled(g: Draft) -> Value:
    return g.op("Gemm", dynamic(g, 2, 6), weights(g, 6, 4, axis=1), alpha=2.0)


def weights_by_row(g: Draft) -> Value:
    return g.op("MatMul", dynamic(g, 2, 6), weights(g, 6, 4, axis=0))


def computed_bias(g: Draft) -> Value:
    return g.op("Conv", dynamic(g, 1, 3, 5, 5), weights(g, 2, 3, 2, 2, axis=0), g.input(2))


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
        (PRODUCT, doubled, "alpha or beta is not one"),
        (PRODUCT, weights_by_row, "not quantised by output channel"),
        (PRODUCT, computed_bias, "is not constant"),
        (OPERATOR, zero_by_row, "a zero point for each row"),
    ],
)
def test_declines(rule: str, build: Build, reason: str) -> None:
    check_stays(PASS, rule, build, reason)

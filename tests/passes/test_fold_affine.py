"""Scales and shifts into convolutions and products."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "fold-affine"


def conv(g: Draft, x: Value, bias: bool = True, **attributes: object) -> Value:
    return g.op("Conv", x, g.weight(4, 3, 3, 3), *([g.weight(4)] if bias else []), **attributes)


def scaled_conv(g: Draft) -> Value:
    return g.op("Mul", conv(g, g.input(1, 3, 5, 5)), g.weight(4, 1, 1))


def divided_depthwise(g: Draft) -> Value:
    y = g.op("Conv", g.input(1, 4, 5, 5), g.weight(4, 1, 3, 3), group=4)
    return g.op("Div", y, g.weight(1, 4, 1, 1, positive=True))


def scaled_product(g: Draft) -> Value:
    return g.op("Mul", g.op("MatMul", g.input(2, 3, 5), g.weight(5, 4)), g.weight(4))


def shifted_conv(g: Draft) -> Value:
    return g.op("Sub", conv(g, g.input("N", 3, 5, 5), bias=False), g.weight(4, 1, 1))


def shifted_gemm(g: Draft) -> Value:
    y = g.op("Gemm", g.input(3, 5), g.weight(4, 5), g.weight(4), transB=1, beta=0.5)
    return g.op("Add", y, g.const(2.0))


def scale_before_grouped(g: Draft) -> Value:
    x = g.op("Mul", g.input(1, 4, 5, 5), g.weight(4, 1, 1))
    return g.op("Conv", x, g.weight(6, 2, 3, 3), group=2, pads=(1, 1, 1, 1))


def scale_before_gemm(g: Draft) -> Value:
    x = g.op("Div", g.input(3, 5), g.weight(5, positive=True))
    return g.op("Gemm", x, g.weight(4, 5), g.weight(4), transB=1)


def shift_before_conv(g: Draft) -> Value:
    return conv(g, g.op("Add", g.input(1, 3, 5, 5), g.weight(3, 1, 1)))


def shift_before_gemm(g: Draft) -> Value:
    x = g.op("Sub", g.input(3, 5), g.weight(5))
    return g.op("Gemm", x, g.weight(5, 4), g.weight(4), alpha=0.5)


def shifted_matmul(g: Draft) -> Value:
    return g.op("Sub", g.op("MatMul", g.input(3, 5), g.weight(5, 4)), g.weight(4))


def scale_before_transposed(g: Draft) -> Value:
    x = g.op("Mul", g.input(1, 2, 3, 3), g.weight(2, 1, 1))
    return g.op("ConvTranspose", x, g.weight(2, 3, 2, 2), g.weight(3), strides=(2, 2))


def scale_before_matmul(g: Draft) -> Value:
    return g.op("MatMul", g.op("Mul", g.input(2, 3, 5), g.weight(5)), g.weight(5, 4))


def shift_before_matmul(g: Draft) -> Value:
    return g.op("MatMul", g.op("Add", g.input(3, 5), g.weight(5)), g.weight(5, 4))


def division_chain(g: Draft) -> Value:
    return g.op("Div", g.op("Div", g.input(2, 3), g.const(0.3)), g.weight(3, positive=True))


def shift_chain(g: Draft) -> Value:
    return g.op("Sub", g.op("Add", g.input(2, 3), g.weight(3)), g.const(0.3))


def shared_weights(g: Draft) -> Value:
    """The layer that is not scaled keeps the weights."""
    x, w = g.input(1, 3, 4, 4), g.weight(4, 3, 1, 1)
    g.output(g.op("Mul", g.op("Conv", x, w), g.weight(4, 1, 1)), g.op("Conv", x, w))
    return x


def chain(g: Draft) -> Value:
    return g.op("Mul", g.op("Mul", g.input(2, 3), g.weight(3)), g.const(0.3))


@pytest.mark.parametrize(
    ("rule", "build"),
    [
        ("fold-scale-into-producer", scaled_conv),
        ("fold-scale-into-producer", divided_depthwise),
        ("fold-scale-into-producer", scaled_product),
        ("fold-shift-into-producer", shifted_conv),
        ("fold-shift-into-producer", shifted_gemm),
        ("fold-scale-into-consumer", scale_before_grouped),
        ("fold-scale-into-consumer", scale_before_gemm),
        ("fold-shift-into-consumer", shift_before_conv),
        ("fold-shift-into-consumer", shift_before_gemm),
        ("fold-scale-into-producer", shared_weights),
        ("fold-shift-into-producer", shifted_matmul),
        ("fold-scale-into-consumer", scale_before_transposed),
        ("fold-scale-into-consumer", scale_before_matmul),
        ("fold-shift-into-consumer", shift_before_matmul),
        ("affine-chain", chain),
        ("affine-chain", division_chain),
        ("affine-chain", shift_chain),
    ],
)
def test_folds(rule: str, build: Build, update_golden: bool) -> None:
    check_fires(PASS, rule, build, f"affine_{build.__name__}", update_golden)


def scale_by_pixel(g: Draft) -> Value:
    return g.op("Mul", conv(g, g.input(1, 3, 5, 5)), g.weight(3, 3))


def divided_by_zero(g: Draft) -> Value:
    return g.op("Div", conv(g, g.input(1, 3, 5, 5)), g.const([[[1.0]], [[0.0]], [[2.0]], [[1.0]]]))


def scaled_and_kept(g: Draft) -> Value:
    y = conv(g, g.input(1, 3, 5, 5))
    return g.op("Add", g.op("Mul", y, g.weight(4, 1, 1)), y)


def scaled_output(g: Draft) -> Value:
    y = conv(g, g.input(1, 3, 5, 5))
    g.output(y, g.op("Mul", y, g.weight(4, 1, 1)))
    return y


def shift_before_padded(g: Draft) -> Value:
    return conv(g, g.op("Add", g.input(1, 3, 5, 5), g.weight(3, 1, 1)), pads=(1, 1, 1, 1))


def growing_chain(g: Draft) -> Value:
    return g.op("Mul", g.op("Mul", g.input(2, 3, 4), g.weight(3, 1)), g.weight(4))


def mixed_chain(g: Draft) -> Value:
    return g.op("Mul", g.op("Add", g.input(2, 3), g.weight(3)), g.weight(3))


def shifted_rows(g: Draft) -> Value:
    return g.op("Add", g.op("MatMul", g.input(2, 3, 5), g.weight(5, 4)), g.weight(4))


def constant_over(g: Draft) -> Value:
    return g.op("Div", g.weight(4, 1, 1), conv(g, g.input(1, 3, 5, 5)))


def scale_of_two(g: Draft) -> Value:
    x = g.op("Mul", g.input(1, 3, 5, 5), g.weight(3, 1, 1))
    g.output(conv(g, x), g.op("Relu", x))
    return x


def scale_is_output(g: Draft) -> Value:
    x = g.op("Mul", g.input(1, 3, 5, 5), g.weight(3, 1, 1))
    g.output(x, conv(g, x))
    return x


def scale_by_row(g: Draft) -> Value:
    return conv(g, g.op("Mul", g.input(1, 3, 5, 5), g.weight(5, 1)))


def zero_chain(g: Draft) -> Value:
    return g.op("Mul", g.op("Div", g.input(2, 3), g.const([1.0, 0.0, 2.0])), g.const(2.0))


def integer_chain(g: Draft) -> Value:
    x = g.op("Add", g.input(3, dtype=DType.int32), g.const(2, np.int32))
    return g.op("Sub", x, g.const(1, np.int32))


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
        ("fold-scale-into-producer", constant_over, "want Conv or ConvTranspose"),
        ("fold-shift-into-producer", shifted_rows, "has no place for a bias"),
        ("fold-scale-into-consumer", scale_of_two, "is also used by"),
        ("fold-scale-into-consumer", scale_is_output, "is a graph output"),
        ("fold-scale-into-consumer", scale_by_row, "not one number per input channel"),
        ("affine-chain", zero_chain, "a divisor has zeros"),
        ("affine-chain", integer_chain, "integers may overflow"),
        ("fold-scale-into-producer", scale_by_pixel, "not one number per output channel"),
        ("fold-scale-into-producer", divided_by_zero, "has zeros"),
        ("fold-scale-into-producer", scaled_and_kept, "is also used by"),
        ("fold-scale-into-producer", scaled_output, "is a graph output"),
        ("fold-shift-into-consumer", shift_before_padded, "pads its input with zeros"),
        ("affine-chain", growing_chain, "larger than either"),
        ("affine-chain", mixed_chain, "one scales, the other shifts"),
    ],
)
def test_declines(rule: str, build: Build, reason: str) -> None:
    check_stays(PASS, rule, build, reason)

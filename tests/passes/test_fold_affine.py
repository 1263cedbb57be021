"""Scales and shifts into convolutions and products."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
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
        ("affine-chain", chain),
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


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
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

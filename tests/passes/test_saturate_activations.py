"""Activations that saturation replaces."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "saturate-activations"
RULE = "saturate-instead"


def quantized(g: Draft, x: Value, scale: float, zero: int) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(zero, np.int8))


def relu(g: Draft) -> Value:
    return quantized(g, g.op("Relu", g.input(2, 5)), 0.02, -128)


def unsigned_relu(g: Draft) -> Value:
    return g.op("QuantizeLinear", g.op("Relu", g.input(2, 5)), g.const(0.02), g.const(0, np.uint8))


def relu6(g: Draft) -> Value:
    return quantized(g, g.op("Clip", g.input(2, 5), g.const(0.0), g.const(6.0)), 6 / 255, -128)


@pytest.mark.parametrize("build", [relu, unsigned_relu, relu6])
def test_saturates(build: Build, update_golden: bool) -> None:
    check_fires(PASS, RULE, build, f"saturated_{build.__name__}", update_golden)


def relu_in_the_middle(g: Draft) -> Value:
    return quantized(g, g.op("Relu", g.input(2, 5)), 0.02, 0)


def early_clip(g: Draft) -> Value:
    return quantized(g, g.op("Clip", g.input(2, 5), g.const(0.0), g.const(6.0)), 0.03, -128)


def computed_clip(g: Draft) -> Value:
    return quantized(g, g.op("Clip", g.input(2, 5), g.input()), 0.02, -128)


def by_channel(g: Draft) -> Value:
    x = g.op("Relu", g.input(2, 5))
    return g.op("QuantizeLinear", x, g.weight(5, positive=True), g.const([-128] * 5, np.int8))


def read_twice(g: Draft) -> Value:
    x = g.op("Relu", g.input(2, 5))
    g.output(quantized(g, x, 0.02, -128), g.op("Exp", x))
    return x


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (relu_in_the_middle, "cuts off more"),
        (early_clip, "cuts off more"),
        (computed_clip, "is not a constant"),
        (by_channel, "for each channel"),
        (read_twice, "is also used by"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays(PASS, RULE, build, reason)

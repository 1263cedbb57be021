"""A batch normalisation between bytes is one multiply-add on the integers."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

PASS = "lower-integer"
RULE = "requantize-affine"
SX, SY = np.float32(0.037), np.float32(0.11)
ZX, ZY = -5, 7
ROUNDING = 2.0**-24
"""What rounding to float32 changes a number by at most, relatively."""


def dequantized(g: Draft, *shape: int) -> Value:
    x = g.input(*shape, dtype=DType.int8)
    return g.op("DequantizeLinear", x, g.const(SX), g.const(ZX, np.int8))


def affine(g: Draft, x: Value, factor: object, shift: object) -> Value:
    return g.op("Add", g.op("Mul", x, g.const(factor)), g.const(shift))


def quantized(g: Draft, x: Value) -> Value:
    return g.op("QuantizeLinear", x, g.const(SY), g.const(ZY, np.int8))


def by_channel(g: Draft, channels: int) -> np.ndarray:
    """Numbers of both signs."""
    return g.random.uniform(-2, 2, (channels, 1, 1))


def normalization(g: Draft) -> Value:
    x = dequantized(g, 1, 6, 4, 4)
    return quantized(g, affine(g, x, by_channel(g, 6), by_channel(g, 6)))


def normalization_of_unsigned(g: Draft) -> Value:
    """Without zero points, which is as with zero points of 0."""
    x = g.op("DequantizeLinear", g.input(2, 3, 4, 4, dtype=DType.uint8), g.const(SX))
    return g.op("QuantizeLinear", affine(g, x, by_channel(g, 3), by_channel(g, 3)), g.const(SY))


@pytest.mark.parametrize("build", [normalization, normalization_of_unsigned])
def test_lowers(build: Build, update_golden: bool) -> None:
    check_fires(PASS, RULE, build, f"integer_{build.__name__}", update_golden, exported=False)


@pytest.mark.parametrize("seed", range(5))
def test_rounds_what_real_numbers_give(seed: int) -> None:
    """Every byte through 64 channels, against float64: off by half a step, and what float32 rounds on the way.

    That is two roundings of the product (its factor's and its own), two of the shift and the sum: no more than twice
    the sum of both magnitudes, each time by the rounding of float32. Constants were computed in float64.
    """
    random = np.random.default_rng(seed)
    factor, shift = random.uniform(-2, 2, (64, 1)), random.uniform(-8, 8, (64, 1))
    x = np.tile(np.arange(-128, 128).astype(np.int8), (1, 64, 1))
    graph = made(lambda g: quantized(g, affine(g, dequantized(g, *x.shape), factor, shift)))
    parse_pipeline(PASS, catalog()).run(graph)
    (result,) = run(graph, {graph.inputs[0].name: x}).values()

    factor, shift = (data.astype(np.float32).astype(np.float64) for data in (factor, shift))
    step, origin = float(SX) * factor / float(SY), shift / float(SY) - ZX * float(SX) * factor / float(SY)
    exact = x * step + origin
    error = 2.01 * ROUNDING * (np.abs(x * step) + np.abs(origin))
    low, high = (np.clip(exact + ZY + side * (0.5 + error), -128, 127) for side in (-1, 1))
    assert ((np.ceil(low) <= result) & (result <= np.floor(high))).all()


def of_floats(g: Draft) -> Value:
    return quantized(g, affine(g, g.input(2, 4), 0.5, 1.5))


def scaled_by_channel(g: Draft) -> Value:
    x = g.op("DequantizeLinear", g.input(2, 4, dtype=DType.int8), g.weight(4, positive=True), axis=1)
    return quantized(g, affine(g, x, 0.5, 1.5))


def quantized_by_channel(g: Draft) -> Value:
    x = affine(g, dequantized(g, 2, 4), 0.5, 1.5)
    return g.op("QuantizeLinear", x, g.weight(4, positive=True), axis=1)


def beyond_floats(g: Draft) -> Value:
    x = affine(g, dequantized(g, 2, 4), 1e30, 1.5)
    return g.op("QuantizeLinear", x, g.const(1e-30), g.const(ZY, np.int8))


def computed_factor(g: Draft) -> Value:
    x = g.op("Mul", dequantized(g, 2, 4), g.input(4))
    return quantized(g, g.op("Add", x, g.const(1.5)))


def computed_shift(g: Draft) -> Value:
    x = g.op("Mul", dequantized(g, 2, 4), g.const(0.5))
    return quantized(g, g.op("Add", x, g.input(4)))


def sum_that_is_an_output(g: Draft) -> Value:
    x = affine(g, dequantized(g, 2, 4), 0.5, 1.5)
    g.output(x, quantized(g, x))
    return x


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of_floats, "is not dequantised with one scale"),
        (scaled_by_channel, "is not dequantised with one scale"),
        (quantized_by_channel, "is not a single number in float32"),
        (beyond_floats, "its numbers overflow"),
        (computed_factor, "is not a constant"),
        (computed_shift, "is not a constant"),
        (sum_that_is_an_output, "is a graph output"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays(PASS, RULE, build, reason)

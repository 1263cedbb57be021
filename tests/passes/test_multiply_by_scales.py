"""Where floats become integers they are multiplied, not divided."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.ir import DType, Value
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

PASS = "multiply-by-scales"
PRODUCT, GATE = "scaled-product", "scaled-gate"
SX, SV, SY = np.float32(0.037), np.float32(0.0039), np.float32(0.011)
ZX, ZV, ZY = 5, 3, 7
ROUNDING = 2.0**-24
"""What rounding to float32 changes a number by at most, relatively."""


def dequantized(
    g: Draft, *shape: int, scale: float = SX, zero: int = ZX, dtype: DType = DType.uint8
) -> Value:
    x = g.input(*shape, dtype=dtype)
    return g.op("DequantizeLinear", x, g.const(scale), g.const(zero, dtype.numpy.type))


def quantized(g: Draft, x: Value, scale: float = SY) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(ZY, np.uint8))


def scaled(g: Draft, *shape: int) -> Value:
    """Integers, as sums are, times a number for each channel."""
    x = g.op("Cast", g.input(*shape, dtype=DType.int32), to=DType.float32.onnx_code)
    return g.op("Mul", x, g.const(g.random.uniform(0.01, 0.05, (shape[1], 1, 1))))


def squeeze_and_excitation(g: Draft) -> Value:
    return quantized(g, g.op("Mul", dequantized(g, 1, 6, 4, 4), dequantized(g, 1, 6, 1, 1, scale=SV, zero=0)))


def square(g: Draft) -> Value:
    x = dequantized(g, 2, 5)
    return quantized(g, g.op("Mul", x, x))


def swish(g: Draft) -> Value:
    return quantized(g, g.op("Swish", scaled(g, 1, 6, 4, 4)))


def steep_swish(g: Draft) -> Value:
    return quantized(g, g.op("Swish", scaled(g, 1, 6, 4, 4), alpha=1.702))


def hard_swish(g: Draft) -> Value:
    return quantized(g, g.op("HardSwish", scaled(g, 1, 6, 4, 4)))


@pytest.mark.parametrize(
    ("rule", "build"),
    [
        (PRODUCT, squeeze_and_excitation),
        (PRODUCT, square),
        (GATE, swish),
        (GATE, steep_swish),
        (GATE, hard_swish),
    ],
)
def test_fires(rule: str, build: Build, update_golden: bool) -> None:
    check_fires(PASS, rule, build, f"scaled_{build.__name__}", update_golden)


def assert_rounded(result: np.ndarray, exact: np.ndarray, error: np.ndarray) -> None:
    """`result` is `exact`, quantised, where that may be off by `error` steps before it is rounded."""
    low, high = (np.clip(exact + ZY + side * (0.5 + error), 0, 255) for side in (-1, 1))
    assert ((np.ceil(low) <= result) & (result <= np.floor(high))).all()


def test_all_pairs_of_bytes() -> None:
    """A product of integers is exact; its factor is rounded once, and what they make once."""
    x, v = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    graph = made(
        lambda g: quantized(
            g, g.op("Mul", dequantized(g, *x.shape), dequantized(g, *v.shape, scale=SV, zero=ZV))
        )
    )
    parse_pipeline(PASS, catalog()).run(graph)
    (result,) = run(graph, dict(zip((i.name for i in graph.inputs), (x, v), strict=True))).values()
    exact = (x.astype(float) - ZX) * (v.astype(float) - ZV) * (float(SX) * float(SV) / float(SY))
    assert_rounded(result, exact, 2.01 * ROUNDING * np.abs(exact))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("activation", "gate", "rounded"),
    [("Swish", _sigmoid, 12), ("HardSwish", lambda x: np.clip(x / 6 + 0.5, 0, 1), 8)],
)
def test_gates_are_those_of_real_numbers(
    activation: str, gate: Callable[[np.ndarray], np.ndarray], rounded: int
) -> None:
    """Twice a rounding for u, its multiplier and the last product each; so much more for the gate: its operand is u
    times a number, rounded once more, at which a gate has a slope of 1/4 of a step at most; and a sigmoid is four
    operations."""
    sums = np.arange(-4000, 4000, dtype=np.int32).reshape(1, 4, 50, 40)
    graph = made(lambda g: quantized(g, g.op(activation, scaled(g, *sums.shape)), 0.5))
    (factor,) = (node.inputs[1].constant for node in graph.nodes if node.op_type == "Mul")
    parse_pipeline(PASS, catalog()).run(graph)
    (result,) = run(graph, {graph.inputs[0].name: sums}).values()
    x = sums * factor.astype(float)
    exact = x * gate(x) / 0.5
    assert_rounded(result, exact, rounded * ROUNDING * np.abs(x / 0.5))


def of_floats(g: Draft) -> Value:
    return quantized(g, g.op("Mul", dequantized(g, 2, 4), g.input(2, 4)))


def product_by_channel(g: Draft) -> Value:
    x = g.op("Mul", dequantized(g, 2, 4), dequantized(g, 2, 4))
    return g.op("QuantizeLinear", x, g.weight(4, positive=True), axis=1)


def product_of_16_bits(g: Draft) -> Value:
    return quantized(g, g.op("Mul", *(dequantized(g, 2, 4, dtype=DType.uint16) for _ in range(2))))


def product_beyond_floats(g: Draft) -> Value:
    x = g.op("Mul", *(dequantized(g, 2, 4, scale=1e20) for _ in range(2)))
    return quantized(g, x, 1e-5)


def product_that_is_an_output(g: Draft) -> Value:
    x = g.op("Mul", dequantized(g, 2, 4), dequantized(g, 2, 4))
    g.output(x, quantized(g, x))
    return x


def swish_of_floats(g: Draft) -> Value:
    return quantized(g, g.op("Swish", g.op("Mul", g.input(2, 4), g.const(0.5))))


def swish_by_channel(g: Draft) -> Value:
    return g.op("QuantizeLinear", g.op("Swish", scaled(g, 1, 4, 2, 2)), g.weight(4, positive=True), axis=1)


def swish_beyond_floats(g: Draft) -> Value:
    x = g.op("Mul", g.op("Cast", g.input(4, dtype=DType.int32), to=DType.float32.onnx_code), g.const(1e30))
    return quantized(g, g.op("Swish", x), 1e-30)


def swish_that_is_an_output(g: Draft) -> Value:
    x = g.op("Swish", scaled(g, 1, 4, 2, 2))
    g.output(x, quantized(g, x))
    return x


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
        (PRODUCT, of_floats, "is not dequantised with one scale"),
        (PRODUCT, product_by_channel, "is not a single number in float32"),
        (PRODUCT, product_of_16_bits, "are rounded"),
        (PRODUCT, product_beyond_floats, "its numbers overflow"),
        (PRODUCT, product_that_is_an_output, "is a graph output"),
        (GATE, swish_of_floats, "are no integers"),
        (GATE, swish_by_channel, "is not a single number in float32"),
        (GATE, swish_beyond_floats, "its numbers overflow"),
        (GATE, swish_that_is_an_output, "is a graph output"),
    ],
)
def test_declines(rule: str, build: Build, reason: str) -> None:
    check_stays(PASS, rule, build, reason)

"""Float tails of integer sums become fixed point, at most one step off; what is declined stays in floats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphopt.ir import QUANT, DType, Graph, Value
from graphopt.ir.text import to_text
from graphopt.passes import catalog
from graphopt.passes.integers import sum_reach
from graphopt.passes.requantize_fixed import left_in_floats
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Statistics
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, compare_golden, made

BEFORE = "saturate-activations,lower-integer"
FIXED = "requantize-fixed"
RULES = (FIXED, "softmax-fixed", "hard-swish-fixed")
SX, SY = np.float32(0.037), np.float32(0.09)


def dequantized(
    g: Draft, *shape: int, dtype: DType = DType.int8, zero: int = -5, scale: float = float(SX)
) -> Value:
    x = g.input(*shape, dtype=dtype)
    return g.op("DequantizeLinear", x, g.const(scale), g.const(zero, dtype.numpy.type))


def convolved(g: Draft, x: Value, channels: int = 4, largest: float = 0.02) -> Value:
    shape = (channels, x.static_shape[1], 1, 1)
    scale = g.random.uniform(largest / 20, largest, channels).astype(np.float32)
    w = g.op(
        "DequantizeLinear", g.const(g.random.integers(-127, 128, shape), np.int8), g.const(scale), axis=0
    )
    data = g.random.integers(-2000, 2000, channels)
    bias = g.op("DequantizeLinear", g.const(data, np.int32), g.const(SX * scale), axis=0)
    return g.op("Conv", x, w, bias)


def quantized(g: Draft, x: Value, scale: float = float(SY), zero: int = 7, dtype: type = np.int8) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(zero, dtype))


def conv(g: Draft) -> Value:
    return quantized(g, convolved(g, dequantized(g, 1, 3, 4, 4)))


def relu(g: Draft) -> Value:
    return quantized(g, g.op("Relu", convolved(g, dequantized(g, 1, 3, 4, 4))))


def clip(g: Draft) -> Value:
    x = convolved(g, dequantized(g, 1, 3, 4, 4, dtype=DType.uint8, zero=9))
    return quantized(g, g.op("Clip", x, g.const(-1.5), g.const(6.0)), dtype=np.uint8, zero=30)


def large_scale(g: Draft) -> Value:
    """Some channels have a scale of half and more."""
    return quantized(g, convolved(g, dequantized(g, 1, 3, 4, 4), largest=2.0), scale=0.01)


def large_bias(g: Draft) -> Value:
    """Shifted, it would not fit 32 bits."""
    scale = np.array([0.9, 0.01], np.float32)
    w = g.op("DequantizeLinear", g.const([[[[3]]], [[[100]]]], np.int8), g.const(scale), axis=0)
    bias = g.op("DequantizeLinear", g.const([-(1 << 30), 500], np.int32), g.const(SX * scale), axis=0)
    return quantized(g, g.op("Conv", dequantized(g, 1, 1, 4, 4), w, bias), scale=0.002)


def product(g: Draft) -> Value:
    a, b = dequantized(g, 2, 3, 6, dtype=DType.uint8, zero=9), dequantized(g, 2, 6, 5)
    return quantized(g, g.op("MatMul", a, b))


def addition(g: Draft) -> Value:
    x, y = dequantized(g, 1, 4, 3, 3), dequantized(g, 1, 4, 3, 3, dtype=DType.uint8, zero=200, scale=0.061)
    return quantized(g, g.op("Relu", g.op("Add", x, y)), scale=0.05, zero=-100)


def subtraction(g: Draft) -> Value:
    x = g.op("Sub", dequantized(g, 2, 5), dequantized(g, 2, 5, scale=0.003))
    return quantized(g, g.op("Add", x, g.const([0.25, 0.0, -3.0, 0.125, 7.0])))


def residual(g: Draft) -> Value:
    """Quantised once, behind the addition."""
    x = dequantized(g, 1, 4, 3, 3)
    return quantized(g, g.op("Relu", g.op("Add", convolved(g, x), x)), scale=0.07, zero=-128)


def subtracted(g: Draft) -> Value:
    x = dequantized(g, 1, 4, 3, 3)
    return quantized(g, g.op("Sub", x, convolved(g, x)), scale=0.07, zero=0)


def gate(g: Draft) -> Value:
    x = g.op("Mul", dequantized(g, 1, 4, 3, 3), dequantized(g, 1, 4, 1, 1, dtype=DType.uint8, zero=0))
    return quantized(g, x, scale=0.05)


def average_pool(g: Draft) -> Value:
    """Windows at the border have fewer taps."""
    x = g.op(
        "AveragePool", dequantized(g, 1, 3, 5, 5), kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2)
    )
    return quantized(g, x, scale=0.03)


def global_pool(g: Draft) -> Value:
    return quantized(g, g.op("GlobalAveragePool", dequantized(g, 1, 3, 5, 5)), scale=float(SX), zero=-5)


def mean(g: Draft) -> Value:
    x = g.op("ReduceMean", dequantized(g, 2, 7, 3), g.ints(1), keepdims=0)
    return quantized(g, x, scale=0.02)


def another_scale(g: Draft) -> Value:
    return quantized(g, dequantized(g, 3, 7), scale=0.05, dtype=np.uint8, zero=128)


def affine(g: Draft) -> Value:
    """A batch normalisation on its own."""
    x = g.op("Mul", dequantized(g, 1, 3, 4, 4), g.const([[[0.5]], [[-2.0]], [[1.25]]]))
    return quantized(g, g.op("Add", x, g.const([[[0.5]], [[1.0]], [[-2.0]]])))


def dead_channel(g: Draft) -> Value:
    """Weights of next to nothing; all that a channel has is a bias in steps as small."""
    scale = np.array([1e-9, 0.02], np.float32)
    w = g.op("DequantizeLinear", g.const([[[[3]]], [[[100]]]], np.int8), g.const(scale), axis=0)
    bias = g.op("DequantizeLinear", g.const([1 << 30, 500], np.int32), g.const(SX * scale), axis=0)
    return quantized(g, g.op("Conv", dequantized(g, 1, 1, 4, 4), w, bias), scale=1.5e-3)


def hard_swish(g: Draft) -> Value:
    x = convolved(g, dequantized(g, 1, 3, 4, 4))
    return quantized(g, g.op("HardSwish", x), scale=0.02, zero=-110)


def hard_swish_of_small_steps(g: Draft) -> Value:
    """Of which its least value is farther from zero than a byte."""
    x = convolved(g, dequantized(g, 1, 3, 4, 4), largest=0.004)
    return quantized(g, g.op("HardSwish", x), scale=0.001, zero=100)


def hard_swish_of_large_scales(g: Draft) -> Value:
    x = convolved(g, dequantized(g, 1, 3, 4, 4, dtype=DType.uint8, zero=9), largest=0.9)
    return quantized(g, g.op("HardSwish", x), scale=0.4, zero=40, dtype=np.uint8)


def hard_sigmoid(g: Draft) -> Value:
    x = convolved(g, dequantized(g, 1, 3, 4, 4))
    return quantized(g, g.op("HardSigmoid", x, alpha=1 / 6), scale=1 / 255, zero=-128)


def softmax(g: Draft) -> Value:
    x = g.op("Softmax", dequantized(g, 3, 10), axis=-1)
    return quantized(g, x, scale=1 / 256, zero=-128)


FIRING: Mapping[str, Build] = {
    build.__name__: build
    for build in (
        conv,
        relu,
        clip,
        large_scale,
        large_bias,
        product,
        addition,
        subtraction,
        residual,
        subtracted,
        gate,
        average_pool,
        global_pool,
        mean,
        another_scale,
        affine,
        dead_channel,
        hard_swish,
        hard_swish_of_small_steps,
        hard_swish_of_large_scales,
        hard_sigmoid,
        softmax,
    )
}


SHIFTED = {
    "hard_sigmoid",
    "hard_swish",
    "hard_swish_of_large_scales",
    "hard_swish_of_small_steps",
    "large_bias",
    "large_scale",
    "residual",
    "subtracted",
}
"""Where sums have scales of half or more, in some unit."""


def prepared(build: Build) -> Graph:
    graph = made(build)
    parse_pipeline(BEFORE, catalog()).run(graph)
    return graph


def fixed(graph: Graph) -> Statistics:
    return parse_pipeline(f"{FIXED},eliminate-dead-code", catalog()).run(graph, explain=RULES).statistics()


def bytes_for(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    bounds = {v.name: np.iinfo(v.dtype.numpy) for v in graph.inputs}
    return {
        v.name: random.integers(b.min, b.max + 1, v.static_shape).astype(b.dtype)
        for v, b in zip(graph.inputs, bounds.values(), strict=True)
    }


@pytest.mark.parametrize("name", FIRING)
def test_fires(name: str, update_golden: bool) -> None:
    """The golden text has no float, and results are at most one step from those of floats."""
    before = prepared(FIRING[name])
    graph = before.clone()
    statistics = fixed(graph)
    assert sum(statistics.fired[rule] for rule in RULES) == 1
    assert not left_in_floats(graph), [a.reason for a in statistics.attempts]
    compare_golden(to_text(graph, weights="digest"), f"fixed_{name}", update_golden)
    for seed in range(20):
        inputs = bytes_for(before, seed)
        for key, want in run(before, inputs).items():
            got = run(graph, inputs)[key]
            assert got.dtype == want.dtype and len(np.unique(want)) > 1
            assert np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize("name", FIRING)
def test_what_is_said_to_fit_does(name: str) -> None:
    graph = prepared(FIRING[name])
    fixed(graph)
    shifted = [node for node in graph.nodes if node.is_op("Requantize", domain=QUANT) and node.input(2)]
    assert bool(shifted) == (name in SHIFTED)
    for node in shifted:
        x, shift = node.inputs[0], node.inputs[2]
        assert x is not None and shift is not None and shift.constant is not None
        largest = np.ldexp(sum_reach(x), shift.constant).max()
        assert node.int("fits") == int(largest < 2**31 - 1) == int(name != "large_bias")


def inside_activation(g: Draft) -> Value:
    x = dequantized(g, 1, 4, 3, 3)
    return quantized(g, g.op("Add", g.op("Relu", convolved(g, x)), x))


def sigmoid(g: Draft) -> Value:
    return quantized(g, g.op("Sigmoid", convolved(g, dequantized(g, 1, 3, 2, 2))), scale=1 / 256)


def of_16_bits(g: Draft) -> Value:
    return quantized(g, convolved(g, dequantized(g, 1, 3, 2, 2)), dtype=np.int16)


def per_channel(g: Draft) -> Value:
    x = convolved(g, dequantized(g, 1, 3, 2, 2))
    return g.op("QuantizeLinear", x, g.const([0.1, 0.2, 0.3, 0.1]), g.const([0] * 4, np.int8), axis=1)


def of_floats(g: Draft) -> Value:
    return quantized(g, g.input(3, 4))


def far_too_large(g: Draft) -> Value:
    return quantized(g, convolved(g, dequantized(g, 1, 3, 2, 2), largest=2000.0), scale=1e-4)


def no_room(g: Draft) -> Value:
    """What is added is a hundred thousand steps."""
    x = g.op("Add", dequantized(g, 2, 5), dequantized(g, 2, 5, scale=40.0))
    return quantized(g, x, scale=0.002)


def two_signs(g: Draft) -> Value:
    x = g.op("Mul", convolved(g, dequantized(g, 1, 3, 2, 2)), g.const([[[1.0]], [[-1.0]], [[1.0]], [[2.0]]]))
    return quantized(g, x)


def spread(g: Draft) -> Value:
    """One number is scaled by three."""
    x = g.op("GlobalAveragePool", dequantized(g, 1, 1, 3, 3))
    return quantized(g, g.op("Mul", x, g.const([[[[0.5]], [[0.25]], [[1.0]]]])))


def long_softmax(g: Draft) -> Value:
    x = g.op("Softmax", dequantized(g, 1, 200000), axis=-1)
    return quantized(g, x, scale=1 / 256, zero=-128)


def odd_softmax(g: Draft) -> Value:
    return quantized(g, g.op("Softmax", dequantized(g, 2, 10)), scale=0.0043, zero=-128)


STAYING = {
    inside_activation: "an activation is in front of an addition",
    sigmoid: "Sigmoid has no form in fixed point",
    of_16_bits: "its results are no bytes",
    per_channel: "a scale or a zero point for each channel",
    of_floats: "is not computed of integers",
    far_too_large: "is beyond 32768",
    no_room: "leave too few of 32 bits for fractions",
    two_signs: "differs in sign by channel",
    spread: "a scale has more elements than what it scales",
}


@pytest.mark.parametrize("build", STAYING)
def test_stays(build: Build) -> None:
    graph = prepared(build)
    statistics = fixed(graph)
    assert not statistics.fired[FIXED]
    reasons = [a.reason for a in statistics.attempts if a.rule == FIXED]
    assert any(STAYING[build] in reason for reason in reasons), reasons
    assert left_in_floats(graph)


def tiny_swish(g: Draft) -> Value:
    return quantized(g, g.op("HardSwish", convolved(g, dequantized(g, 1, 3, 4, 4))), scale=5e-4)


def swish_of_a_sum(g: Draft) -> Value:
    x = dequantized(g, 1, 4, 3, 3)
    return quantized(g, g.op("HardSwish", g.op("Add", convolved(g, x), x)))


def swish_of_large_numbers(g: Draft) -> Value:
    return quantized(g, g.op("HardSwish", convolved(g, dequantized(g, 1, 3, 2, 2), largest=500.0)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (tiny_swish, "is too small for its range"),
        (swish_of_a_sum, "HardSwish is not of one sum of integers"),
        (swish_of_large_numbers, "is beyond 32768"),
    ],
)
def test_hard_swish_stays(build: Build, reason: str) -> None:
    statistics = fixed(prepared(build))
    assert not statistics.fired["hard-swish-fixed"]
    reasons = [a.reason for a in statistics.attempts if a.rule == "hard-swish-fixed"]
    assert any(reason in given for given in reasons), reasons


@pytest.mark.parametrize("step", [0.00074, 0.003, 0.01, 0.05, 0.3])
def test_hard_swish_on_all_its_range(step: float) -> None:
    """At most one step off for sums all along it, whatever the scale of the result."""

    def build(g: Draft) -> Value:
        x = g.input(1, 40000, dtype=DType.int32)
        scaled = g.op("Mul", g.op("Cast", x, to=DType.float32.onnx_code), g.const(np.float32(4e-4)))
        return quantized(g, g.op("HardSwish", scaled), scale=step, zero=100)

    before = made(build)
    graph = before.clone()
    assert fixed(graph).fired["hard-swish-fixed"] == 1
    inputs = {"x0": np.arange(-20000, 20000, dtype=np.int32)[np.newaxis]}
    (want,), (got,) = run(before, inputs).values(), run(graph, inputs).values()
    assert len(np.unique(want)) > 10 and np.abs(got.astype(int) - want).max() == 1


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (long_softmax, "200000 numbers on its axis leave too few"),
        (odd_softmax, "is not one over a whole number"),
    ],
)
def test_softmax_stays(build: Build, reason: str) -> None:
    statistics = fixed(prepared(build))
    assert not statistics.fired["softmax-fixed"]
    assert any(reason in a.reason for a in statistics.attempts if a.rule == "softmax-fixed")


def test_bounds_of_bytes_are_the_activations() -> None:
    graph = prepared(clip)
    fixed(graph)
    (node,) = (n for n in graph.nodes if n.is_op("Requantize", domain=QUANT))
    assert (node.int("low"), node.int("high")) == (30 - 17, 30 + 67)


def test_a_bias_matches_its_multiplier() -> None:
    """Where only the bias counts, fixed point is as exact as floats; with the bias as it was it would not be."""
    before = prepared(dead_channel)
    graph = before.clone()
    fixed(graph)
    inputs = bytes_for(before, 0)
    (want,), (got,) = run(before, inputs).values(), run(graph, inputs).values()
    np.testing.assert_array_equal(got[:, 0], want[:, 0])
    (sums,) = (node for node in graph.nodes if node.is_op("Conv", domain=QUANT))
    assert sums.inputs[2].constant.tolist() != [1 << 30, 500]  # type: ignore[union-attr]
    (plain,) = (node for node in before.nodes if node.is_op("Conv", domain=QUANT))
    sums.set_input(2, graph.add_constant(plain.inputs[2].constant, "plain"))  # type: ignore[union-attr,arg-type]
    (off,) = run(graph, inputs).values()
    assert (off[:, 0] != want[:, 0]).any() and np.abs(off.astype(int) - want).max() == 1


def test_no_term_of_a_sum_overflows() -> None:
    """The largest sums that weights and bytes allow, in every combination of ends."""
    before = prepared(residual)
    graph = before.clone()
    fixed(graph)
    for x in (-128, 127):
        inputs = {v.name: np.full(v.static_shape, x, np.int8) for v in before.inputs}
        for key, want in run(before, inputs).items():
            assert np.abs(run(graph, inputs)[key].astype(int) - want).max() <= 1

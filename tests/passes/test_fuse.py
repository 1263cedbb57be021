"""Activations and residual additions into the group of the layer before them."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from graphopt.passes.fuse_activations import ACTIVATIONS
from tests.passes.helpers import Build, Draft, check_fires, check_stays

ACT, RES = "fuse-activations", "fuse-residual"


def conv(g: Draft, x: Value, channels: int = 2) -> Value:
    return g.op("Conv", x, g.weight(channels, channels, 1, 1), g.weight(channels))


def image(g: Draft, batch: int | str = 1) -> Value:
    return g.input(batch, 2, 3, 3)


def with_activation(g: Draft, op_type: str, *operands: float, **attributes: object) -> Value:
    return g.op(op_type, conv(g, image(g)), *(g.const(o) for o in operands), **attributes)


SPELLED: dict[str, Build] = {
    "Clip": lambda g: with_activation(g, "Clip", 0.0, 6.0),
    "Elu": lambda g: with_activation(g, "Elu", alpha=0.5),
    "Gelu": lambda g: with_activation(g, "Gelu", approximate="tanh"),
    "HardSigmoid": lambda g: with_activation(g, "HardSigmoid", alpha=0.2),
    "LeakyRelu": lambda g: with_activation(g, "LeakyRelu", alpha=0.1),
    "PRelu": lambda g: g.op("PRelu", conv(g, image(g)), g.weight(2, 1, 1)),
}


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_joins_its_convolution(activation: str, update_golden: bool) -> None:
    build = SPELLED.get(activation, lambda g: with_activation(g, activation))
    check_fires(ACT, ACT, build, f"fuse_{activation.lower()}", update_golden)


def after_gemm(g: Draft) -> Value:
    return g.op("Relu", g.op("Gemm", g.input("N", 5), g.weight(5, 3), g.weight(3)))


def after_pool(g: Draft) -> Value:
    return g.op("Sigmoid", g.op("GlobalAveragePool", image(g)))


def after_norm(g: Draft) -> Value:
    return g.op("Tanh", g.op("LayerNormalization", g.input(2, 4), g.weight(4)))


def twice(g: Draft) -> Value:
    return g.op("Tanh", g.op("Relu", conv(g, image(g))))


@pytest.mark.parametrize("build", [after_gemm, after_pool, after_norm, twice])
def test_joins(build: Build, update_golden: bool) -> None:
    check_fires(ACT, ACT, build, f"fuse_{build.__name__}", update_golden)


def of_input(g: Draft) -> Value:
    return g.op("Relu", image(g))


def of_exp(g: Draft) -> Value:
    return g.op("Relu", g.op("Exp", image(g)))


def fans_out(g: Draft) -> Value:
    y = conv(g, image(g))
    return g.op("Add", g.op("Relu", y), g.op("Exp", y))


def is_output(g: Draft) -> Value:
    y = conv(g, image(g))
    g.output(y, g.op("Relu", y))
    return y


def indices_are_read(g: Draft) -> Value:
    values, places = g.ops("MaxPool", image(g), outputs=2, kernel_shape=(2, 2))
    g.output(g.op("Relu", values), places)
    return values


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of_input, "it works on a graph input"),
        (of_exp, "is not an anchor"),
        (fans_out, "is needed elsewhere too"),
        (is_output, "is needed elsewhere too"),
        (indices_are_read, "is needed elsewhere too"),
    ],
)
def test_activation_stays(build: Build, reason: str) -> None:
    check_stays(ACT, ACT, build, reason)


def residual(g: Draft) -> Value:
    x = image(g)
    return g.op("Add", conv(g, x), x)


def residual_relu(g: Draft) -> Value:
    """The later of two convolutions takes the addition and what follows."""
    x = image(g, "N")
    y = conv(g, x)
    return g.op("Relu", g.op("Add", y, conv(g, g.op("Relu", x))))


def gate(g: Draft) -> Value:
    x = image(g)
    return g.op("Mul", x, g.op("Sigmoid", conv(g, x)))


def bias_of_matmul(g: Draft) -> Value:
    return g.op("Add", g.weight(4), g.op("MatMul", g.input(2, 3, 5), g.weight(5, 4)))


@pytest.mark.parametrize("build", [residual, residual_relu, gate, bias_of_matmul])
def test_residual_joins(build: Build, update_golden: bool) -> None:
    check_fires(f"{ACT},{RES}", RES, build, f"residual_{build.__name__}", update_golden)


def of_two_inputs(g: Draft) -> Value:
    return g.op("Add", image(g), image(g))


def of_no_layer(g: Draft) -> Value:
    x = image(g)
    return g.op("Add", conv(g, x), g.op("Exp", g.op("Neg", x)))


def with_itself(g: Draft) -> Value:
    y = conv(g, image(g))
    return g.op("Add", y, y)


def sum_is_not_all(g: Draft) -> Value:
    y = conv(g, image(g))
    g.output(g.op("Add", y, g.input(1, 2, 3, 3)), y)
    return y


def larger(g: Draft) -> Value:
    return g.op("Mul", image(g), g.op("GlobalAveragePool", image(g)))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of_two_inputs, "no operand is computed"),
        (of_no_layer, "is not an anchor"),
        (with_itself, "is needed elsewhere too"),
        (sum_is_not_all, "is needed elsewhere too"),
        (larger, "the other operand is larger"),
    ],
)
def test_residual_stays(build: Build, reason: str) -> None:
    check_stays(RES, RES, build, reason)

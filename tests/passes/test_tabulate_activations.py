"""Functions of bytes as tables: the same result for every byte, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import QUANT, DType, Graph, Value
from graphopt.passes.tabulate_activations import TabulateActivations
from graphopt.pipeline import Pipeline
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Build, Draft, check_stays, made

PASS = "tabulate-activations"


def floats(g: Draft, x: Value, scale: float = 0.05, zero: int = 3) -> Value:
    return g.op("DequantizeLinear", x, g.const(scale), g.const(zero, x.dtype.numpy.type))


def numbers(g: Draft, x: Value, scale: float = 1 / 256, zero: int = -128, dtype: type = np.int8) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(zero, dtype))


def sigmoid(g: Draft, dtype: DType = DType.int8) -> Value:
    return numbers(g, g.op("Sigmoid", floats(g, g.input(4, 64, dtype=dtype))))


def to_unsigned(g: Draft) -> Value:
    return numbers(g, g.op("Tanh", floats(g, g.input(4, 64, dtype=DType.int8))), 1 / 128, 128, np.uint8)


def of_unsigned(g: Draft) -> Value:
    return sigmoid(g, DType.uint8)


def swish(g: Draft) -> Value:
    """Quantised in between, as exporters do."""
    x = g.input(4, 64, dtype=DType.int8)
    gate = floats(g, numbers(g, g.op("Sigmoid", floats(g, x))), 1 / 256, -128)
    return numbers(g, g.op("Mul", floats(g, x), gate), 0.05, 3)


def gelu(g: Draft) -> Value:
    x = floats(g, g.input(4, 64, dtype=DType.int8))
    inner = g.op("Erf", g.op("Mul", x, g.const([[0.7071]])))
    return numbers(g, g.op("Mul", x, g.op("Add", inner, g.const(1.0))), 0.1, -100)


def all_bytes(dtype: np.dtype) -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(4, 64).view(dtype)


def tabulated(graph: Graph) -> Graph:
    copy = graph.clone()
    Pipeline((TabulateActivations(),)).run(copy)
    return copy


@pytest.mark.parametrize("build", [sigmoid, of_unsigned, to_unsigned, swish, gelu])
def test_every_byte(build: Build) -> None:
    graph = made(build)
    table = tabulated(graph)
    assert [node.key for node in table.nodes] == [f"{QUANT}::Lookup"]
    x = {"x0": all_bytes(graph.inputs[0].dtype.numpy)}
    (want,), (got,) = run(graph, x).values(), run(table, x).values()
    assert len(np.unique(want)) > 8 and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_others_read_what_is_looked_up() -> None:
    """A second reader keeps the bytes, which then are written anyway."""

    def build(g: Draft) -> None:
        x = numbers(g, g.input(4, 64), 0.02, 0)
        y = floats(g, x)
        g.output(numbers(g, g.op("Sigmoid", y)), numbers(g, g.op("Add", y, y)))

    table = tabulated(made(build))  # type: ignore[arg-type]
    found = [node.op_type for node in table.nodes]
    assert found == ["QuantizeLinear", "DequantizeLinear", "Lookup", "Add", "QuantizeLinear"]


def of_two(g: Draft) -> Value:
    x, y = (floats(g, g.input(2, 3, dtype=DType.int8)) for _ in range(2))
    return numbers(g, g.op("Mul", x, g.op("Sigmoid", y)))


def cheap(g: Draft) -> Value:
    return numbers(g, g.op("HardSwish", floats(g, g.input(2, 3, dtype=DType.int8))))


def behind_a_product(g: Draft) -> Value:
    x = numbers(g, g.op("MatMul", g.input(2, 3), g.weight(3, 4)), 0.05, 3)
    return numbers(g, g.op("Sigmoid", floats(g, x)))


def swish_behind_a_product(g: Draft) -> Value:
    """No part of it becomes a table either."""
    x = numbers(g, g.op("MatMul", g.input(2, 3), g.weight(3, 4)), 0.05, 3)
    gate = floats(g, numbers(g, g.op("Sigmoid", floats(g, x))), 1 / 256, -128)
    return numbers(g, g.op("Mul", floats(g, x), gate), 0.05, 3)


def seen_inside(g: Draft) -> Value:
    y = g.op("Sigmoid", floats(g, g.input(2, 3, dtype=DType.int8)))
    g.output(y, numbers(g, y))
    return y


def by_channel(g: Draft) -> Value:
    x = floats(g, g.input(2, 3, dtype=DType.int8))
    return numbers(g, g.op("Sigmoid", g.op("Mul", x, g.weight(3))))


def to_16_bits(g: Draft) -> Value:
    return numbers(g, g.op("Sigmoid", floats(g, g.input(2, 3, dtype=DType.int8))), dtype=np.int16)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of_two, "more than one tensor"),
        (cheap, "it is cheap"),
        (behind_a_product, "it stays in the kernel"),
        (swish_behind_a_product, "it stays in the kernel"),
        (seen_inside, "more than one tensor"),
        (by_channel, "more than one tensor"),
        (to_16_bits, "its result are no bytes"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays(PASS, PASS, build, reason)


@pytest.mark.parametrize("build", [cheap, behind_a_product, swish_behind_a_product])
def test_everything(build: Build) -> None:
    """For processors without floats nothing of a single byte is too cheap, or better off in a kernel."""
    graph = made(build)
    table = graph.clone()
    Pipeline((TabulateActivations(everything=True),)).run(table)
    assert [node.op_type for node in table.nodes][-1] == "Lookup"
    inputs = random_inputs(graph)
    (want,), (got,) = run(graph, inputs).values(), run(table, inputs).values()
    np.testing.assert_array_equal(got, want)

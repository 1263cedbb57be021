"""Bytes with the other sign: the same results, inputs and outputs of the same types, nothing converted in between."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import QUANT, DType, Graph, Value, verify
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.passes.lower_integer import LowerInteger
from graphopt.passes.recentre_bytes import RecentreBytes
from graphopt.passes.tabulate_activations import TabulateActivations
from graphopt.pipeline import Pipeline
from graphopt.preparation import legalized
from graphopt.runtime.reference import run
from tests.passes.helpers import Draft, made
from tests.passes.quantization.quantised import quantised, samples_of

SCALE = 0.05


def dequantized(g: Draft, x: Value, zero: int) -> Value:
    return g.op("DequantizeLinear", x, g.const(SCALE), g.const(zero, x.dtype.numpy.type))


def quantized(g: Draft, x: Value, zero: int, dtype: DType) -> Value:
    return g.op("QuantizeLinear", x, g.const(SCALE), g.const(zero, dtype.numpy.type))


def product(g: Draft, x: Value, width: int) -> Value:
    data = g.const(g.random.integers(-127, 128, (x.static_shape[-1], width)), np.int8)
    return g.op("MatMul", x, g.op("DequantizeLinear", data, g.const(0.003)))


def network(dtype: DType) -> Graph:
    """Moves, a join with a constant, an outside reader, a table, a residual, an output that is read inside,
    attention."""
    g, kind = Draft(), dtype.numpy.type
    x = g.input(2, 3, 8, dtype=dtype)
    y = quantized(g, product(g, dequantized(g, x, 3), 8), 9, dtype)
    z = g.op("Concat", g.op("Transpose", y, perm=(0, 2, 1)), g.const(np.full((2, 8, 1), 4), kind), axis=2)
    z = g.op("Max", z, g.const(5, kind))
    left, right = g.ops("Split", z, g.ints(2, 2), outputs=2, axis=2)
    u = quantized(g, product(g, dequantized(g, left, 9), 8), 1, dtype)
    attended = g.op("MatMul", dequantized(g, y, 9), dequantized(g, u, 1))
    total = quantized(g, g.op("Add", dequantized(g, y, 9), dequantized(g, x, 3)), 2, dtype)
    seen = g.op("Cast", right, to=DType.float32.onnx_code)
    gate = quantized(g, g.op("Sigmoid", dequantized(g, right, 9)), 4, dtype)
    g.output(
        total, attended, seen, product(g, dequantized(g, total, 2), 4), product(g, dequantized(g, gate, 4), 4)
    )
    return g.graph


def recentred(graph: Graph, signed: bool) -> Graph:
    copy = graph.clone()
    Pipeline((RecentreBytes(signed), EliminateDeadCode())).run(copy)
    verify(copy)
    return copy


@pytest.mark.parametrize("dtype", [DType.int8, DType.uint8])
@pytest.mark.parametrize("signed", [False, True])
def test_the_same_results(dtype: DType, signed: bool) -> None:
    graph = network(dtype)
    Pipeline((LowerInteger(), TabulateActivations())).run(graph)
    bounds = np.iinfo(dtype.numpy)
    x = np.random.default_rng(1).integers(bounds.min, bounds.max + 1, (2, 3, 8)).astype(dtype.numpy)
    want, got = run(graph, {"x0": x}), run(recentred(graph, signed), {"x0": x})
    assert list(want) == list(got)
    for name, expected in want.items():
        assert len(np.unique(expected)) > 4
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


def multiplied(graph: Graph, operand: int) -> set[DType]:
    found = (node.inputs[operand] for node in graph.nodes if node.domain == QUANT)
    return {value.dtype for value in found if value is not None and value.constant is None}


def test_everything_multiplied_has_the_sign() -> None:
    """Bytes are converted where the graph takes and gives them, and for the one reader that knows nothing of it."""
    graph = network(DType.uint8)
    Pipeline((LowerInteger(), TabulateActivations())).run(graph)
    signed = recentred(graph, True)
    assert multiplied(signed, 0) == multiplied(signed, 1) == {DType.int8}
    flips = [node for node in signed.nodes if node.is_op("BitwiseXor")]
    read = [node.inputs[0].name for node in flips if node.inputs[0] is not None]
    assert len(flips) == 3 and "x0" in read


def test_what_is_made_of_integers_has_it_too_if_asked() -> None:
    """A residual and its sum, which no product reads; means of them."""
    g = Draft()
    x = g.input(2, 5, 8, dtype=DType.uint8)
    y = quantized(g, product(g, dequantized(g, x, 3), 8), 9, DType.uint8)
    z = quantized(g, g.op("Add", dequantized(g, y, 9), product(g, dequantized(g, x, 3), 8)), 2, DType.uint8)
    g.output(quantized(g, g.op("Add", dequantized(g, y, 9), dequantized(g, z, 2)), 7, DType.uint8))
    graph = legalized(g.graph, fixed_point=True)
    copy = graph.clone()
    Pipeline((RecentreBytes(True, everything=True), EliminateDeadCode())).run(copy)
    verify(copy)
    unsigned = {v for v in copy.values() if v.dtype is DType.uint8 and not v.is_graph_output and v.producer}
    assert all(v.constant is not None or v.producer.is_op("BitwiseXor") for v in unsigned)
    for seed in range(3):
        inputs = {"x0": np.random.default_rng(seed).integers(0, 256, (2, 5, 8)).astype(np.uint8)}
        for name, expected in run(graph, inputs).items():
            np.testing.assert_array_equal(run(copy, inputs)[name], expected)


def test_weights_of_attention_become_signed_everywhere() -> None:
    graph = network(DType.uint8)
    Pipeline((LowerInteger(), TabulateActivations())).run(graph)
    assert multiplied(recentred(graph, False), 1) == {DType.int8}


def test_nothing_is_left_to_do() -> None:
    graph = network(DType.int8)
    Pipeline((LowerInteger(), TabulateActivations())).run(graph)
    assert not Pipeline((RecentreBytes(True),)).run(graph).statistics().fired["recentre-bytes"]


def two_recurrences(first: str, second: str) -> Graph:
    """The second is multiplied with the states of the first, which begin with a computed one."""

    def build(g: Draft) -> Value:
        x, h = g.input(5, 2, 3), g.input(1, 2, 6)
        for operator in (first, second):
            rows, width = {"LSTM": 24, "GRU": 18}[operator], x.static_shape[-1]
            weights = (g.weight(1, rows, width), g.weight(1, rows, 6), g.weight(1, 2 * rows))
            reset = {"linear_before_reset": 1} if operator == "GRU" else {}
            states, last, *cell = g.ops(
                operator, x, *weights, None, h, outputs=3 - len(reset), hidden_size=6, **reset
            )
            g.output(last, *cell)
            x = g.op("Squeeze", states, g.ints(1))
        return x

    return legalized(quantised(made(build)))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("operators", [("LSTM", "GRU"), ("GRU", "LSTM")])
def test_states_are_made_with_the_sign_that_is_multiplied(operators: tuple[str, str], signed: bool) -> None:
    graph = two_recurrences(*operators)
    found = recentred(graph, signed)
    assert multiplied(found, 0) == {DType.float32, DType.int8 if signed else DType.uint8}
    assert not any(node.is_op("BitwiseXor") for node in found.nodes)
    for sample in samples_of(graph):
        want, got = run(graph, sample), run(found, sample)
        for name, expected in want.items():
            np.testing.assert_array_equal(got[name], expected)

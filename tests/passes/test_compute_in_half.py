"""float16 where that is safe: which operators, where values are converted, and what stays away from it."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Graph, Value, verify
from graphopt.passes.compute_in_half import SMALLEST, ComputeInHalf, fits
from graphopt.pipeline import Pipeline
from tests.passes.helpers import Build, Draft, made, outputs_of

HALF_UNIT = float(np.finfo(np.float16).eps)
TERMS = 64
"""Of the longest sum of a case: rounding errors add up to at most so many units of the largest partial sum."""


def converted(build: Build) -> Graph:
    """The graph after the pass. Its outputs are compared on the way."""
    graph = made(build)
    before = outputs_of(graph, {})
    types = [value.type for value in (*graph.inputs, *graph.outputs)]
    Pipeline((ComputeInHalf(),)).run(graph)
    verify(graph)
    assert [value.type for value in (*graph.inputs, *graph.outputs)] == types
    for name, value in outputs_of(graph, {}).items():
        assert np.abs(value - before[name]).max() <= TERMS * HALF_UNIT * np.abs(before[name]).max()
    return graph


def operators(graph: Graph) -> list[str]:
    """In order; those whose result is in float16 in capitals."""
    return [
        node.op_type.upper() if node.output.dtype is DType.float16 else node.op_type.lower()
        for node in graph.nodes
    ]


def conv(g: Draft, x: Value, made: int) -> Value:
    return g.op("Conv", x, g.weight(made, x.static_shape[1], 1, 1), g.weight(made))


def test_a_network_is_converted_at_its_borders_and_around_what_is_not_safe() -> None:
    def network(g: Draft) -> Value:
        x = g.op("Relu", conv(g, g.input(1, 3, 4, 4), 8))
        gated = g.op("Mul", x, g.op("Sigmoid", x))
        pooled = g.op("Flatten", g.op("GlobalAveragePool", gated))
        return g.op("Softmax", g.op("Gemm", pooled, g.weight(8, 5)))

    graph = converted(network)
    assert operators(graph) == (
        "CAST CONV RELU cast sigmoid CAST MUL GLOBALAVERAGEPOOL FLATTEN GEMM cast softmax".split()
    )
    assert all(v.dtype is DType.float16 for v in graph.constants if v.dtype.is_float)


def test_a_value_is_converted_once_for_all_its_readers() -> None:
    def branches(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 4, 4), 8)
        return g.op(
            "Add", g.op("Exp", g.op("Neg", x)), g.op("Add", g.op("Exp", x), g.op("Sqrt", g.op("Abs", x)))
        )

    assert operators(converted(branches)).count("cast") == 3
    assert operators(converted(lambda g: g.op("Mul", x := conv(g, g.input(1, 3, 4, 4), 8), x)))[-1] == "cast"


def test_what_reads_no_float16_stays_in_float32() -> None:
    def normalised(g: Draft) -> Value:
        x = g.input(2, 3, 8)
        variance = g.op("ReduceMean", g.op("Pow", x, g.const(2.0)), g.ints(-1))
        scaled = g.op("Div", x, g.op("Sqrt", g.op("Add", variance, g.const(1e-5))))
        return g.op("MatMul", g.op("Mul", scaled, g.weight(8)), g.weight(8, 4))

    assert operators(converted(normalised))[-4:] == ["mul", "CAST", "MATMUL", "cast"]


def test_moves_are_done_in_the_type_that_their_readers_want() -> None:
    def moved(g: Draft) -> Value:
        x = conv(g, g.op("Transpose", g.input(1, 4, 4, 3), perm=(0, 3, 1, 2)), 8)
        return g.op("Exp", g.op("Reshape", x, g.ints(8, 16)))

    assert operators(converted(moved)) == "CAST TRANSPOSE CONV cast reshape exp".split()


@pytest.mark.parametrize(
    ("constant", "held"),
    [
        (0.0, True),
        (65504.0, True),
        (65536.0, False),
        (np.inf, False),
        (SMALLEST, True),
        (SMALLEST / 2, False),
    ],
)
def test_constants_beyond_the_range_keep_their_node_in_float32(constant: float, held: bool) -> None:
    assert fits(np.array([constant, 0.0])) is held

    def clipped(g: Draft) -> Value:
        limits = g.const(-constant), g.const(constant)
        return g.op("Clip", conv(g, g.input(1, 3, 4, 4), 8), *limits)

    assert ("CLIP" in operators(converted(clipped))) is held


def test_reasons_are_told() -> None:
    def several(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 4, 4), 8)
        wide = g.op("Cast", g.input(1, 8, 4, 4), to=DType.float64.onnx_code)
        g.output(g.op("Add", wide, g.op("Cast", x, to=DType.float64.onnx_code)))
        g.output(g.op("Transpose", x))
        g.output(g.op("Greater", x, g.const(0.5)))
        return g.op("Mul", g.op("Exp", x), g.const(1e6))

    graph = made(several)
    record = Pipeline((ComputeInHalf(),)).run(graph, explain=("compute-in-half",))
    verify(graph)
    reasons = {attempt.reason for attempt in record.statistics().attempts if attempt.reason}
    assert reasons == {
        "it is not safe in float16",
        "it has a type of its own",
        "nobody reads its result in float16",
        "no operand is in float16",
    }

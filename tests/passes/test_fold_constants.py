"""What depends on constants alone is computed at compile time, unless it would make the model larger."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from graphopt.errors import UsageError
from graphopt.ir import DType, Graph, TensorType, Value, verify
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Statistics
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

RULE = "fold-constants"


def arithmetic(g: Draft) -> Value:
    a = g.op("Add", g.const([1.0, 2.0]), g.const([3.0, 4.0]))
    return g.op("Mul", g.input(2), g.op("Sqrt", a))


def transposed_weights(g: Draft) -> Value:
    return g.op("MatMul", g.input("N", 5), g.op("Transpose", g.weight(4, 5)))


def several_outputs(g: Draft) -> Value:
    parts = g.ops("Split", g.const([1.0, 2.0, 3.0]), g.ints(1, 2), outputs=2)
    return g.op("Add", g.input(2), parts[1])


def returned(g: Draft) -> Value:
    return g.op("Exp", g.const([0.0, 1.0]))


def small_expand(g: Draft) -> Value:
    return g.op("Add", g.input(2, 3), g.op("Expand", g.const(2.0), g.ints(2, 3)))


@pytest.mark.parametrize("build", [arithmetic, transposed_weights, several_outputs, returned, small_expand])
def test_folds(build: Build, update_golden: bool) -> None:
    check_fires(RULE, RULE, build, f"constant_{build.__name__}", update_golden)


def random(g: Draft) -> Value:
    return g.op("Add", g.input(2, 3), g.op("RandomNormal", shape=(2, 3), dtype=TensorProto.FLOAT, seed=1.0))


def training(g: Draft) -> Value:
    return g.op("Add", g.input(2), g.op("Dropout", g.weight(2), g.const(0.5), g.const(True, np.bool_)))


def quantised(g: Draft) -> Value:
    w = g.op("DequantizeLinear", g.const([[1, 2], [3, 4]], np.int8), g.const(0.5), g.const(0, np.int8))
    return g.op("MatMul", g.input(3, 2), w)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (random, "it is random"),
        (training, "it is random"),
        (quantised, "quantisation stays explicit"),
        (lambda g: g.op("Relu", g.input(2)), "is not a constant"),
    ],
)
def test_declines(build: Build, reason: str) -> None:
    check_stays(RULE, RULE, build, reason)


def test_dequantises_when_told_to(update_golden: bool) -> None:
    check_fires(f"{RULE}{{dequantize=true}}", RULE, quantised, "constant_dequantised", update_golden)


def weights_of(graph: Graph) -> int:
    return sum(value.constant.nbytes for value in graph.constants if value.constant is not None)


def test_a_model_never_grows_beyond_the_limit() -> None:
    """Three expansions of 4 KB where 10 KB are allowed: two are folded."""

    def build(g: Draft) -> Value:
        y = g.input(1024)
        for number in range(3):
            y = g.op("Add", y, g.op("Expand", g.const(float(number)), g.ints(1024)))
        return y

    graph = made(build)
    before = weights_of(graph)
    record = parse_pipeline(f"{RULE}{{max_bytes=10000}}", catalog()).run(graph, explain=(RULE,))
    assert record.statistics().fired[RULE] == 2
    assert weights_of(graph) <= before + 10000
    assert sum(node.is_op("Expand") for node in graph.nodes) == 1
    assert any("would grow by" in attempt.reason for attempt in record.statistics().attempts)


def test_a_result_of_gigabytes_is_never_made() -> None:
    def build(g: Draft) -> Value:
        return g.op("Expand", g.const(1.0), g.ints(1 << 20, 1 << 14))

    check_stays(RULE, RULE, build, "would grow by 6871947")


def test_folds_inside_nested_graphs() -> None:
    graph = Graph("outer", opset=24)
    condition = graph.add_input("c", TensorType(DType.bool, ()))
    x = graph.add_input("x", TensorType(DType.float32, (2,)))
    branches = []
    for number in (1.0, 2.0):
        nested = Graph("branch", opset=24, parent=graph)
        one = nested.add_constant(np.array([number, number], np.float32))
        kind = TensorType(DType.float32, (2,))
        total = nested.add("Add", [one, one], types=[kind])
        nested.add_output(nested.add("Mul", [x, total.output], types=[kind]).output)
        branches.append(nested)
    attributes = {"then_branch": branches[0], "else_branch": branches[1]}
    node = graph.add("If", [condition], attributes, types=[TensorType(DType.float32, (2,))])
    graph.add_output(node.output, "y")
    statistics = Statistics()
    catalog()[RULE]().run(graph, statistics)
    verify(graph)
    assert statistics.fired[RULE] == 2
    assert [len(branch) for branch in branches] == [1, 1]


def test_an_operator_that_the_reference_cannot_run_stays() -> None:
    def build(g: Draft) -> Value:
        g.graph.domains["com.example"] = 1
        y = g.graph.add(
            "Mystery", [g.const(1.0)], domain="com.example", types=[TensorType(DType.float32, ())]
        )
        return g.op("Relu", y.output)

    graph = made(build)
    catalog()[RULE]().run(graph, Statistics())
    assert len(graph) == 2


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match="'lots' is not a value for max_bytes"):
        parse_pipeline(f"{RULE}{{max_bytes=lots}}", catalog())

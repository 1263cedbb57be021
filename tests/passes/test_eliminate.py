"""Common subexpressions and dead code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from graphopt.ir import DType, Graph, TensorType, Value, verify
from graphopt.passes import catalog
from graphopt.rewrite import Statistics
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Build, Draft, check_fires, made

CSE, DCE = "eliminate-common-subexpressions", "eliminate-dead-code"


def twice(g: Draft) -> Value:
    x = g.input(2, 3)
    return g.op("Add", g.op("Exp", x), g.op("Exp", x))


def commuted(g: Draft) -> Value:
    x, y = g.input(2, 3), g.input(2, 3)
    return g.op("Mul", g.op("Add", x, y), g.op("Add", y, x))


def equal_constants(g: Draft) -> Value:
    x = g.input(2, 3)
    return g.op("Mul", g.op("Add", x, g.const([1.0, 2.0, 3.0])), g.op("Add", x, g.const([1.0, 2.0, 3.0])))


def both_outputs(g: Draft) -> Value:
    x = g.input(2, 3)
    g.output(g.op("Exp", x), g.op("Exp", x))
    return x


def chain(g: Draft) -> Value:
    x = g.input(2, 3)
    ends = [g.op("Clip", g.op("Exp", x), g.const(0.0), g.const(1.0)) for _ in range(2)]
    return g.op("Add", *ends)


@pytest.mark.parametrize("build", [twice, commuted, equal_constants, both_outputs, chain])
def test_merges(build: Build, update_golden: bool) -> None:
    check_fires(CSE, CSE, build, f"common_{build.__name__}", update_golden)


def order_matters(g: Draft) -> Value:
    x, y = g.input(2, 3), g.input(2, 3)
    return g.op("Mul", g.op("Sub", x, y), g.op("Sub", y, x))


def other_attribute(g: Draft) -> Value:
    x = g.input(2, 3)
    return g.op("Add", g.op("Softmax", x, axis=0), g.op("Softmax", x, axis=1))


def other_type(g: Draft) -> Value:
    x = g.input(2, 3)
    casts = (g.op("Cast", g.const(1, kind), to=TensorProto.FLOAT) for kind in (np.int32, np.int64))
    return g.op("Add", g.op("Mul", x, next(casts)), g.op("Mul", x, next(casts)))


def negative_zero(g: Draft) -> Value:
    x = g.input(2, 3)
    return g.op("Add", g.op("Div", x, g.const(0.0)), g.op("Div", x, g.const(-0.0)))


def random(g: Draft) -> Value:
    noise = (g.op("RandomNormal", shape=(2, 3), dtype=TensorProto.FLOAT) for _ in range(2))
    return g.op("Add", next(noise), next(noise))


@pytest.mark.parametrize("build", [order_matters, other_attribute, other_type, negative_zero, random])
def test_keeps_apart(build: Build) -> None:
    graph = made(build)
    count, statistics = len(graph), Statistics()
    catalog()[CSE]().run(graph, statistics)
    assert len(graph) == count and not statistics.fired[CSE]


STEPS = st.lists(
    st.tuples(st.sampled_from("Add Sub Mul Max Neg Abs".split()), st.integers(0), st.integers(0)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("Add Sub Mul Max Neg Abs".split()), st.integers(0), st.integers(0)),
        max_size=12,
    )
)
def test_random_graphs_compute_the_same_once(steps: list[tuple[str, int, int]]) -> None:
    """Merging and sweeping change no bit, and leave no two equal nodes and no dead one."""
    graph = Graph("random", opset=24)
    kind = TensorType(DType.float32, (3,))
    values = [graph.add_input("a", kind), graph.add_input("b", kind)]
    for op_type, left, right in steps:
        operands = [values[left % len(values)], values[right % len(values)]]
        operands = operands[:1] if op_type in ("Neg", "Abs") else operands
        values.append(graph.add(op_type, operands, types=[kind]).output)
    graph.add_output(values[-1], "y")
    inputs = random_inputs(graph)
    before = run(graph, inputs)
    for name in (DCE, CSE):
        catalog()[name]().run(graph, Statistics())
        verify(graph)
    assert run(graph, inputs)["y"].tobytes() == before["y"].tobytes()
    keys = [
        (node.op_type, frozenset(node.inputs) if node.op_type != "Sub" else node.inputs)
        for node in graph.nodes
    ]
    assert len(set(keys)) == len(keys)
    assert all(value.uses or value.is_graph_output for node in graph.nodes for value in node.outputs)


def dead_branch(g: Draft) -> Value:
    x = g.input(2, 3)
    g.op("Mul", g.op("Exp", x), g.weight(3))
    return g.op("Relu", x)


def dead_input(g: Draft) -> Value:
    """The signature stays, whatever is read."""
    g.op("Exp", g.input(4))
    return g.op("Relu", g.input(2, 3))


@pytest.mark.parametrize("build", [dead_branch, dead_input])
def test_sweeps(build: Build, update_golden: bool) -> None:
    check_fires(DCE, DCE, build, f"dead_{build.__name__}", update_golden)


def test_a_node_one_of_whose_outputs_is_read_stays() -> None:
    def build(g: Draft) -> Value:
        return g.op("Relu", g.ops("Split", g.input(4), g.ints(1, 3), outputs=2)[1])

    graph = made(build)
    catalog()[DCE]().run(graph, Statistics())
    assert [node.op_type for node in graph.nodes] == ["Split", "Relu"]

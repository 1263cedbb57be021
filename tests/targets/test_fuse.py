"""How far groups grow: to where all paths meet, and no further."""

from __future__ import annotations

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import DType, Graph, Node, TensorType, Value
from graphopt.ir.fused import body_of
from graphopt.ir.view import Output, to_networkx
from graphopt.targets.fuse import fuse

FLOATS = TensorType(DType.float32, (4, 4))


def add(graph: Graph, name: str, *operands: Value) -> Value:
    op = "Relu" if len(operands) == 1 else "Sum"
    return graph.add(op, operands, types=[FLOATS], name=name, output_names=[name]).output


def groups(graph: Graph) -> list[list[str]]:
    fuse(graph)
    return [[member.name for member in body_of(group).nodes] for group in graph.nodes]


@pytest.fixture
def residual() -> Graph:
    """A product, its result a; then b and c beside each other; d joins them and a."""
    graph = Graph(opset=24)
    x, weight = graph.add_input("x", FLOATS), graph.add_input("weight", FLOATS)
    a = graph.add("MatMul", [x, weight], types=[FLOATS], name="a", output_names=["a"]).output
    b, c = add(graph, "b", a), add(graph, "c", a)
    graph.add_output(add(graph, "e", add(graph, "d", a, b, c)))
    return graph


def test_paths_that_meet_are_one_group(residual: Graph) -> None:
    assert groups(residual) == [["a", "b", "c", "d", "e"]]


def test_an_output_in_the_middle_is_a_way_out(residual: Graph) -> None:
    residual.add_output(residual.value("b"), "side")
    assert groups(residual) == [["a"], ["b"], ["c", "d", "e"]]


def test_a_result_that_nobody_reads_is_a_way_out(residual: Graph) -> None:
    add(residual, "unused", residual.value("b"))
    assert groups(residual) == [["a"], ["b"], ["c", "d", "e"], ["unused"]]


def test_an_anchor_on_the_way_ends_a_group(residual: Graph) -> None:
    graph = Graph(opset=24)
    a = add(graph, "a", graph.add_input("x", FLOATS))
    product = graph.add("MatMul", [a, a], types=[FLOATS], name="product").output
    graph.add_output(add(graph, "sum", a, product))
    assert groups(graph) == [["a"], ["product", "sum"]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_group_is_left_that_another_post_dominates(data: st.DataObject) -> None:
    graph = Graph(opset=24)
    made = [graph.add_input("x", FLOATS)]
    for number in range(data.draw(st.integers(1, 9))):
        operands = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=2))
        made.append(add(graph, f"n{number}", *operands))
    for value in data.draw(st.lists(st.sampled_from(made[1:]), max_size=2, unique=True)):
        graph.add_output(value)
    fuse(graph)
    flow = networkx.DiGraph(to_networkx(graph))
    flow.add_edges_from([(vertex, "end") for vertex in flow if isinstance(vertex, Output)])
    flow.add_edges_from([(node, "end") for node in graph.nodes if not any(v.users for v in node.outputs)])
    nearest = networkx.immediate_dominators(flow.reverse(), "end")
    assert not [node for node in graph.nodes if isinstance(nearest[node], Node)]

"""The networkx view: vertices, edges, keys."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from graphopt.ir import DType, Graph, TensorType
from graphopt.ir.view import Output, to_networkx

FLOATS = TensorType(DType.float32, (4,))


@pytest.fixture
def graph() -> Graph:
    """y = Sub(x, Relu(x)) * w; z = x."""
    graph = Graph("net", opset=24)
    x = graph.add_input("x", FLOATS)
    w = graph.add_constant(np.ones(4, np.float32), "w")
    r = graph.add("Relu", [x], types=[FLOATS], name="relu").output
    d = graph.add("Sub", [x, r], types=[FLOATS], name="sub").output
    graph.add_output(graph.add("Mul", [d, w], types=[FLOATS], name="mul").output, "y")
    graph.add_output(x, "z")
    return graph


def test_vertices_and_edges(graph: Graph) -> None:
    view = to_networkx(graph)
    assert view.name == "net"
    assert [label for _, label in view.nodes(data="label")] == [
        "x",
        "Relu relu",
        "Sub sub",
        "Mul mul",
        "y",
        "z",
    ]
    labels = dict(view.nodes(data="label"))
    edges = {
        (labels[a], labels[b], key, value.name) for a, b, key, value in view.edges(keys=True, data="value")
    }
    assert edges == {
        ("x", "Relu relu", 0, "x"),
        ("x", "Sub sub", 0, "x"),
        ("Relu relu", "Sub sub", 1, "relu.0"),
        ("Sub sub", "Mul mul", 0, "sub.0"),
        ("Mul mul", "y", 0, "mul.0"),
        ("x", "z", 0, "x"),
    }


def test_constants_when_asked_for(graph: Graph) -> None:
    view = to_networkx(graph, constants=True)
    w = graph.value("w")
    assert list(view.out_edges(w, keys=True)) == [(w, graph.node("mul"), 1)]


def test_the_same_value_twice_is_two_edges(graph: Graph) -> None:
    sub = graph.node("sub")
    sub.set_input(0, sub.inputs[1])
    assert to_networkx(graph).number_of_edges(graph.node("relu"), sub) == 2


def test_execution_order_is_a_topological_order(graph: Graph) -> None:
    view = to_networkx(graph)
    assert networkx.is_directed_acyclic_graph(view)
    place = {vertex: number for number, vertex in enumerate(view)}
    assert all(place[a] < place[b] for a, b in view.edges())


def test_what_a_branch_captures_is_an_edge(graph: Graph) -> None:
    flag = graph.add_input("flag", TensorType(DType.bool, ()))
    relu = graph.node("relu").output
    branches = {}
    for name in ("then_branch", "else_branch"):
        branches[name] = Graph(name, opset=24, parent=graph)
        branches[name].add_output(branches[name].add("Neg", [relu], types=[FLOATS]).output)
    choice = graph.add("If", [flag], branches, types=[FLOATS])
    assert list(to_networkx(graph).in_edges(choice, keys=True)) == [
        (flag, choice, 0),
        (graph.node("relu"), choice, 1),
    ]


def test_outputs_are_told_apart(graph: Graph) -> None:
    outputs = [vertex for vertex in to_networkx(graph) if isinstance(vertex, Output)]
    assert outputs == [Output(0, "y"), Output(1, "z")]

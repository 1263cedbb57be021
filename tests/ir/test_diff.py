"""Differences in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from graphopt.ir import DType, Graph, TensorType
from graphopt.ir.compare import equal
from graphopt.ir.diff import diff
from tests.ir.graphs import graphs


def tensor(*shape: int | str) -> TensorType:
    return TensorType(DType.float32, shape)


@pytest.fixture
def graph() -> Graph:
    """h = Conv(x, w); r = Relu(h); y = Flatten(r)."""
    graph = Graph("net", opset=24)
    x = graph.add_input("x", tensor("N", 2, 4, 4))
    w = graph.add_constant(np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2), "w")
    h = graph.add("Conv", [x, w], {"pads": (0, 0, 0, 0)}, types=[tensor("N", 3, 3, 3)], name="conv")
    r = graph.add("Relu", [h.output], types=[h.output.type], name="relu", output_names=["r"])
    y = graph.add(
        "Flatten", [r.output], {"axis": 1}, types=[tensor("N", 27)], name="flat", output_names=["y"]
    )
    graph.add_output(y.output)
    return graph


def lines(a: Graph, b: Graph) -> list[str]:
    return str(diff(a, b)).split("\n")


def test_equal_graphs(graph: Graph) -> None:
    found = diff(graph, graph.clone())
    assert not found
    assert str(found) == "graph net: 3 nodes: equal"


def test_a_node_removed_and_its_reader_rewired(graph: Graph) -> None:
    new = graph.clone()
    new.node("relu").output.replace_uses(new.node("conv").output)
    new.remove(new.node("relu"))
    assert lines(graph, new) == [
        "graph net: 3 -> 2 nodes",
        "- %r: float32[N, 3, 3, 3] = Relu(%conv.0) @relu",
        "~ @flat (Flatten): operand 0 %r -> %conv.0",
    ]


def test_a_node_added_stands_where_it_runs(graph: Graph) -> None:
    new = graph.clone()
    r = new.value("r")
    e = new.add("Exp", [r], types=[r.type], name="exp", output_names=["e"], before=new.node("flat"))
    new.node("flat").set_input(0, e.output)
    assert lines(graph, new) == [
        "graph net: 3 -> 4 nodes",
        "+ %e: float32[N, 3, 3, 3] = Exp(%r) @exp",
        "~ @flat (Flatten): operand 0 %r -> %e",
    ]


def test_attributes_operators_and_results(graph: Graph) -> None:
    new = graph.clone()
    conv, relu = new.node("conv"), new.node("relu")
    conv.attributes["pads"] = (1, 1, 1, 1)
    conv.attributes["group"] = 1
    conv.output.type = tensor("N", 3, 5, 5)
    relu.op_type = "Tanh"
    del new.node("flat").attributes["axis"]
    new.rename(relu.output, "t")
    assert lines(graph, new) == [
        "graph net: 3 nodes",
        "~ @conv (Conv): group nothing -> 1; pads [0, 0, 0, 0] -> [1, 1, 1, 1];"
        " %conv.0 float32[N, 3, 3, 3] -> float32[N, 3, 5, 5]",
        "~ @relu, was Relu: %t: float32[N, 3, 3, 3] = Tanh(%conv.0) @relu",
        "~ @flat (Flatten): operand 0 %r -> %t; axis 1 -> nothing",
    ]


def test_inputs_and_outputs(graph: Graph) -> None:
    new = graph.clone()
    new.inputs[0].type = tensor(1, 2, 4, 4)
    new.add_input("z", tensor(3))
    new.set_output(0, new.value("r"))
    new.add_output(new.value("y"), "flat")
    assert lines(graph, new) == [
        "graph net: 3 nodes",
        "~ input %x: float32[N, 2, 4, 4] -> float32[1, 2, 4, 4]",
        "+ input %z: float32[3]",
        "~ output y: %y -> %r",
        "+ output flat: %y",
    ]


def test_constants(graph: Graph) -> None:
    new = graph.clone()
    data = new.value("w").constant.copy()
    data[0, 0, 0, 0] += 0.5
    data[2, 1, 1, 1] -= 2
    new.value("w").constant = data
    new.add_constant(np.array([1.5, np.inf], np.float32), "extra")
    assert lines(graph, new)[1:] == [
        "~ constant %w: 2 of 24 elements differ, by 2 at most",
        "+ const %extra: float32[2] = [1.5, inf]",
    ]
    assert diff(graph, new).of("added", "constant") == ("extra",)
    assert diff(new, graph).of("removed", "constant") == ("extra",)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (np.array([0.0]), np.array([-0.0]), "other bits of equal numbers"),
        (np.array([2**60, 1]), np.array([2**60 + 1, 1]), "1 of 2 elements differ"),
        (np.array([np.nan, 1.0]), np.array([np.nan, 2.0]), "1 of 2 elements differ, by 1 at most"),
        (np.array(["a"], object), np.array(["b"], object), "other texts"),
        (np.array([1j]), np.array([2j]), "1 of 1 elements differ, by 1 at most"),
        (np.array([1]), np.array([1, 2]), "int64[1] -> int64[2]"),
    ],
)
def test_data(a: np.ndarray, b: np.ndarray, text: str) -> None:
    old, new = Graph(opset=24), Graph(opset=24)
    old.add_constant(a, "c")
    new.add_constant(b, "c")
    assert text in lines(old, new)[1]


def test_a_change_in_a_nested_graph(graph: Graph) -> None:
    flag = graph.add_input("flag", TensorType(DType.bool, ()))
    branches = {}
    for name in ("then_branch", "else_branch"):
        branches[name] = Graph(name, opset=24, parent=graph)
        made = branches[name].add(
            "Elu", [graph.value("y")], {"alpha": 1.0}, types=[tensor("N", 27)], name=f"{name}.elu"
        )
        branches[name].add_output(made.output)
    graph.add("If", [flag], branches, types=[tensor("N", 27)], name="if")
    new = graph.clone()
    new.node("if").attributes["else_branch"].node("else_branch.elu").attributes["alpha"] = 2.0
    assert lines(graph, new)[1:] == ["~ @if (If): else_branch {~ @else_branch.elu (Elu): alpha 1.0 -> 2.0}"]


def test_another_order_is_a_difference(graph: Graph) -> None:
    new = graph.clone()
    for each in (graph, new):
        each.add("Exp", [each.inputs[0]], types=[tensor("N", 2, 4, 4)], name="exp")
    new.move_before(new.node("exp"), new.node("conv"))
    [change] = diff(graph, new).changes
    assert (change.kind, change.what) == ("changed", "graph")
    assert "conv" in change.text


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), graphs())
def test_a_difference_is_found_exactly_when_there_is_one(a: Graph, b: Graph) -> None:
    assert not diff(a, a.clone())
    assert bool(diff(a, b)) == (not equal(a, b))
    assert str(diff(a, b))

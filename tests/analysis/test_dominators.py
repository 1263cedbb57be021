"""Dominators by hand, and against their definition on random graphs."""

from __future__ import annotations

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis.dominators import (
    immediate_dominators,
    immediate_post_dominators,
    post_dominators,
)
from graphopt.ir import DType, Graph, Node, TensorType, Value
from graphopt.ir.view import to_networkx

FLOATS = TensorType(DType.float32, (4,))


def add(graph: Graph, name: str, *operands: Value) -> Value:
    op = "Relu" if len(operands) == 1 else "Sum"
    return graph.add(op, operands, types=[FLOATS], name=name, output_names=[name]).output


def names(found: dict[Node, Node | None]) -> dict[str, str | None]:
    return {node.name: None if other is None else other.name for node, other in found.items()}


def residual() -> Graph:
    """a, then b and c beside each other, d joins them and a."""
    graph = Graph(opset=24)
    a = add(graph, "a", graph.add_input("x", FLOATS))
    b, c = add(graph, "b", a), add(graph, "c", a)
    graph.add_output(add(graph, "e", add(graph, "d", a, b, c)))
    return graph


def test_a_residual_block() -> None:
    graph = residual()
    assert names(immediate_dominators(graph)) == {"a": None, "b": "a", "c": "a", "d": "a", "e": "d"}
    assert names(immediate_post_dominators(graph)) == {"a": "d", "b": "d", "c": "d", "d": "e", "e": None}
    chains = {n.name: [p.name for p in after] for n, after in post_dominators(graph).items()}
    assert chains == {"a": ["d", "e"], "b": ["d", "e"], "c": ["d", "e"], "d": ["e"], "e": []}


def test_an_output_in_the_middle_is_a_way_out() -> None:
    graph = residual()
    graph.add_output(graph.value("b"), "side")
    assert names(immediate_post_dominators(graph)) == {"a": None, "b": None, "c": "d", "d": "e", "e": None}


def test_a_result_that_nobody_reads_is_a_way_out() -> None:
    graph = residual()
    add(graph, "unused", graph.value("b"))
    found = names(immediate_post_dominators(graph))
    assert (found["a"], found["b"], found["unused"]) == (None, None, None)


def test_a_node_without_operands_begins_a_path() -> None:
    graph = residual()
    made = graph.add("RandomNormal", [], {"shape": (4,)}, types=[FLOATS], before=graph.node("d"), name="r")
    graph.node("d").set_input(3, made.output)
    assert names(immediate_dominators(graph))["d"] is None
    assert names(immediate_post_dominators(graph))["r"] == "d"


def test_an_empty_graph() -> None:
    assert immediate_dominators(Graph(opset=24)) == {}
    assert post_dominators(Graph(opset=24)) == {}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_definition_holds(data: st.DataObject) -> None:
    graph = Graph(opset=24)
    made = [graph.add_input("x", FLOATS)]
    for number in range(data.draw(st.integers(1, 9))):
        made.append(
            add(graph, f"n{number}", *data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=2)))
        )
    graph.add_output(made[-1])
    flow = networkx.DiGraph(to_networkx(graph))
    for value in made[1:]:
        if not value.users:
            flow.add_edge(value.producer, "end")
    for node, after in post_dominators(graph).items():
        for other in graph.nodes:
            cut = flow.copy()
            cut.remove_node(other)
            reaches = node in cut and networkx.has_path(cut, node, "end")
            assert (other in after) == (other is not node and not reaches)

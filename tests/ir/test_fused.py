"""Groups: what goes in comes out again, in the same order, under the same names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from graphopt.errors import IRError
from graphopt.ir import DType, Graph, TensorType, Value, verify
from graphopt.ir.compare import first_difference
from graphopt.ir.fused import body_of, fuse_nodes, inline_fused, is_fused
from graphopt.ir.structure import structure_key
from graphopt.runtime.reference import random_inputs, run
from tests.networks import NETWORKS

KIND = TensorType(DType.float32, (3,))


def graph_of(steps: list[tuple[int, int]]) -> Graph:
    """Additions of two earlier values each; the last three values are returned."""
    graph = Graph("sums", opset=24)
    values: list[Value] = [graph.add_input("a", KIND), graph.add_input("b", KIND)]
    values.append(graph.add_constant(np.arange(3, dtype=np.float32), "c"))
    values.append(graph.add_constant(np.ones(1, np.float32), "one"))
    for left, right in steps:
        operands = [values[left % len(values)], values[right % len(values)]]
        values.append(graph.add("Add", operands, types=[KIND]).output)
    for value in dict.fromkeys(v for v in values[-3:] if v.producer is not None):
        graph.add_output(value)
    return graph


STEPS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=10)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.data())
def test_fusing_and_inlining_come_back(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    """A run of nodes, in one group or in two one after the other, is whole again after inlining."""
    graph = graph_of(steps)
    before = graph.clone()
    nodes = list(graph.nodes)
    first = data.draw(st.integers(0, len(nodes) - 1))
    last = data.draw(st.integers(first, len(nodes) - 1))
    middle = data.draw(st.integers(first, last))
    group = fuse_nodes(graph, nodes[first : middle + 1])
    if middle < last:
        group = fuse_nodes(graph, [group, *nodes[middle + 1 : last + 1]])
    verify(graph)
    inputs = random_inputs(before)
    for name, want in run(before, inputs).items():
        assert run(graph, inputs)[name].tobytes() == want.tobytes()
    assert inline_fused(graph) == 1
    verify(graph)
    assert first_difference(before, graph) == ""


@settings(max_examples=80, deadline=None)
@given(STEPS, st.sets(st.integers(0, 9), min_size=1))
def test_any_set_is_fused_rightly_or_refused(steps: list[tuple[int, int]], picks: set[int]) -> None:
    graph = graph_of(steps)
    inputs = random_inputs(graph)
    expected = run(graph, inputs)
    nodes = list(graph.nodes)
    members = [node for number, node in enumerate(nodes) if number in picks] or nodes[:1]
    try:
        fuse_nodes(graph, members)
    except IRError as error:
        assert "a path leaves the group and comes back" in str(error)
    verify(graph)
    for name, want in run(graph, inputs).items():
        assert want.tobytes() == expected[name].tobytes()


def test_weights_are_operands_and_single_numbers_are_not() -> None:
    graph = graph_of([(0, 2), (4, 3)])
    group = fuse_nodes(graph, list(graph.nodes))
    assert [value.name for value in group.inputs if value is not None] == ["a", "c"]
    assert [value.name for value in body_of(group).constants] == ["one"]
    assert body_of(group).parent is None


def test_bodies_that_do_the_same_have_one_key() -> None:
    """Names and weights do not count, wiring and single numbers do."""
    keys = []
    for steps in ([(0, 2), (4, 3)], [(1, 2), (4, 3)], [(0, 2), (4, 4)]):
        graph = graph_of(steps)
        keys.append(structure_key(body_of(fuse_nodes(graph, list(graph.nodes)))))
    assert keys[0] == keys[1] != keys[2]


def test_a_group_needs_nodes_of_its_graph() -> None:
    graph = graph_of([(0, 1)])
    for nodes in ([], list(graph_of([(0, 1)]).nodes)):
        with pytest.raises(IRError, match="a group needs nodes, all of this graph"):
            fuse_nodes(graph, nodes)
    with pytest.raises(IRError, match="it is not a fused group"):
        body_of(next(graph.nodes))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_an_optimised_network_is_inlined_and_computes_the_same(name: str) -> None:
    graph = graphopt.optimize(graphopt.load(NETWORKS[name]()))
    plain = graph.clone()
    groups = sum(is_fused(node) for node in graph.nodes)
    assert inline_fused(plain) == groups
    verify(plain)
    assert not any(is_fused(node) for node in plain.all_nodes())
    inputs = random_inputs(graph)
    for key, want in run(graph, inputs).items():
        assert run(plain, inputs)[key].tobytes() == want.tobytes()

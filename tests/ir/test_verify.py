"""The verifier finds every kind of breakage, and says where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.errors import IRError
from graphopt.ir import KERNEL, DType, Graph, Node, TensorType, Value, verify
from graphopt.ir.fused import body_of, fuse_nodes

KIND = TensorType(DType.float32, (2,))


def sound() -> Graph:
    """Relu(Add(x, c)), and an If whose branch reads the sum."""
    graph = Graph("sound", opset=24)
    x, condition = graph.add_input("x", KIND), graph.add_input("condition", TensorType(DType.bool, ()))
    total = graph.add("Add", [x, graph.add_constant(np.ones(2, np.float32), "c")], types=[KIND], name="add")
    relu = graph.add("Relu", [total.output], types=[KIND], name="relu")
    branches = [Graph(name, opset=24, parent=graph) for name in ("yes", "no")]
    for branch in branches:
        branch.add_output(branch.add("Exp", [total.output], types=[KIND]).output)
    attributes = {"then_branch": branches[0], "else_branch": branches[1]}
    choice = graph.add("If", [condition], attributes, types=[KIND], name="choice")
    graph.add_output(relu.output, "y")
    graph.add_output(choice.output, "z")
    return graph


def grouped() -> Graph:
    graph = Graph("grouped", opset=24)
    exp = graph.add("Exp", [graph.add_input("x", KIND)], types=[KIND])
    relu = graph.add("Relu", [exp.output], types=[KIND], name="relu")
    graph.add_output(relu.output, "y")
    fuse_nodes(graph, list(graph.nodes))
    return graph


def branch_of(graph: Graph) -> Graph:
    return graph.node("choice").subgraphs[0]


def use_before_definition(graph: Graph) -> None:
    graph.move_before(graph.node("relu"), graph.node("add"))


def foreign_operand(graph: Graph) -> None:
    graph.node("relu").set_input(0, sound().inputs[0])


def inner_value_outside(graph: Graph) -> None:
    graph.node("relu").set_input(0, next(branch_of(graph).nodes).output)


def forgotten_use(graph: Graph) -> None:
    graph.inputs[0]._uses.clear()


def stale_use(graph: Graph) -> None:
    graph.node("relu")._inputs[0] = graph.inputs[0]
    graph.inputs[0]._uses[id(graph.node("relu")), 0] = next(iter(graph.node("add").output._uses.values()))


def lost_graph(graph: Graph) -> None:
    graph.node("relu").graph = None


def lost_producer(graph: Graph) -> None:
    graph.node("add").output.producer = graph.node("relu")


def wrong_index(graph: Graph) -> None:
    graph.node("add").output.index = 1


def two_nodes_one_name(graph: Graph) -> None:
    graph.node("relu").name = "add"


def two_values_one_name(graph: Graph) -> None:
    graph.node("relu").output.name = "x"


def foreign_value(graph: Graph) -> None:
    graph.node("relu").output.graph = sound()


def input_with_producer(graph: Graph) -> None:
    graph.inputs[0].producer = graph.node("relu")


def constant_of_another_type(graph: Graph) -> None:
    graph.constants[0].type = TensorType(DType.float64, (2,))


def constant_of_another_shape(graph: Graph) -> None:
    graph.constants[0].constant = np.ones(3, np.float32)


def undefined_output(graph: Graph) -> None:
    graph._outputs[0] = sound().inputs[0]


def missing_output_name(graph: Graph) -> None:
    graph.output_names.pop()


def equal_output_names(graph: Graph) -> None:
    graph.output_names[1] = "y"


def miscounted_output(graph: Graph) -> None:
    graph.outputs[0].outputs_of_graph += 1


def orphan_branch(graph: Graph) -> None:
    branch_of(graph).parent = None


def fault_in_a_branch(graph: Graph) -> None:
    next(branch_of(graph).nodes).output.index = 3


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (use_before_definition, "node 'relu' .*'add.0'. is used before it is defined"),
        (foreign_operand, "node 'relu' .*'x'. is used before it is defined"),
        (inner_value_outside, "node 'relu' .*is used before it is defined"),
        (forgotten_use, "node 'add' .*'x'. does not know this use"),
        (stale_use, "value 'x': 'relu' no longer reads it|value 'add.0': 'relu' no longer reads it"),
        (lost_graph, "node 'relu' .*does not know its graph"),
        (lost_producer, "node 'add': output 0 does not know its producer"),
        (wrong_index, "node 'add': output 0 does not know its producer"),
        (two_nodes_one_name, "node 'add': two nodes have this name"),
        (two_values_one_name, "value 'x': two values have this name"),
        (foreign_value, "value 'relu.0': it belongs to another graph"),
        (input_with_producer, "value 'x': an input or constant has a producer"),
        (constant_of_another_type, r"constant 'c': its type float64\[2\] is not its data's"),
        (constant_of_another_shape, r"constant 'c': its type float32\[2\] is not its data's"),
        (undefined_output, "value 'x': a graph output is not defined in the graph"),
        (missing_output_name, "graph 'sound': 2 outputs but 1 output names"),
        (equal_output_names, "graph 'sound': two outputs have one name"),
        (miscounted_output, "value 'relu.0': it counts as 2 outputs, not 1"),
        (orphan_branch, "node 'choice': a nested graph does not know its parent"),
        (fault_in_a_branch, "node 'Exp': output 0 does not know its producer"),
    ],
)
def test_finds(damage: Callable[[Graph], None], fault: str) -> None:
    graph = sound()
    verify(graph)
    damage(graph)
    with pytest.raises(IRError, match=fault):
        verify(graph)


def group_of(graph: Graph) -> Node:
    (group,) = graph.nodes
    assert group.domain == KERNEL
    return group


def more_operands(graph: Graph) -> None:
    group_of(graph).set_input(1, graph.inputs[0])


def other_operand(graph: Graph) -> None:
    graph.inputs[0].type = TensorType(DType.float32, (3,))


def other_result(graph: Graph) -> None:
    group_of(graph).output.type = TensorType(DType.float32, (3,))


def body_with_parent(graph: Graph) -> None:
    body_of(group_of(graph)).parent = graph


def fault_in_the_body(graph: Graph) -> None:
    body = body_of(group_of(graph))
    last: Value = body.outputs[0]
    assert last.producer is not None
    body.move_before(last.producer, next(body.nodes))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (more_operands, "group 'relu': 2 operands for 1 body inputs"),
        (other_operand, r"group 'relu': operand 'x' is float32\[3\], its body wants float32\[2\]"),
        (other_result, "group 'relu': its outputs are not the body's"),
        (body_with_parent, "group 'relu': its body has a parent"),
        (fault_in_the_body, "node 'relu' .*is used before it is defined"),
    ],
)
def test_finds_in_groups(damage: Callable[[Graph], None], fault: str) -> None:
    graph = grouped()
    verify(graph)
    damage(graph)
    with pytest.raises(IRError, match=fault):
        verify(graph)

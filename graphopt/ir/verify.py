"""The invariants of the IR. A pass that breaks one has a bug; the message names the node."""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.ir.graph import KERNEL, Graph, Node
from graphopt.ir.value import Value


def verify(graph: Graph) -> None:
    """Check every invariant of `graph` and of the graphs nested in it. Raises IRError at the first fault.

    Values are defined before use and belong to this graph or an enclosing one; uses and inputs mirror each
    other; names are unique; a constant's type is its data's; outputs and their names correspond.
    """
    _verify(graph, outer=set())


def _verify(graph: Graph, outer: set[Value]) -> None:
    where = f"graph '{graph.name}'"
    if len(graph.outputs) != len(graph.output_names):
        raise IRError(f"{len(graph.outputs)} outputs but {len(graph.output_names)} output names", where=where)
    if len(set(graph.output_names)) != len(graph.output_names):
        raise IRError("two outputs have one name", where=where)
    defined: set[Value] = set()
    names: set[str] = set()
    for value in (*graph.inputs, *graph.constants):
        _define(value, graph, defined, names)
        if value.producer is not None:
            raise IRError("an input or constant has a producer", where=f"value '{value.name}'")
    for value in graph.constants:
        _verify_constant(value)
    node_names: set[str] = set()
    for node in graph.nodes:
        if node.name in node_names:
            raise IRError("two nodes have this name", where=f"node '{node.name}'")
        node_names.add(node.name)
        _verify_node(node, graph, defined | outer if outer else defined)
        for nested in node.subgraphs:
            if node.domain == KERNEL:
                _verify_body(node, nested)
            elif nested.parent is not graph:
                raise IRError("a nested graph does not know its parent", where=f"node '{node.name}'")
            else:
                _verify(nested, defined | outer)
        for index, value in enumerate(node.outputs):
            if value.producer is not node or value.index != index:
                raise IRError(f"output {index} does not know its producer", where=f"node '{node.name}'")
            _define(value, graph, defined, names)
    for value in graph.outputs:
        if value not in defined:
            raise IRError("a graph output is not defined in the graph", where=f"value '{value.name}'")
    for value in defined:
        _verify_uses(value, graph)


def _verify_body(group: Node, body: Graph) -> None:
    where = f"group '{group.name}'"
    if body.parent is not None:
        raise IRError("its body has a parent", where=where)
    if len(body.inputs) != len(group.inputs) or None in group.inputs:
        raise IRError(f"{len(group.inputs)} operands for {len(body.inputs)} body inputs", where=where)
    for inner, operand in zip(body.inputs, group.inputs, strict=True):
        if inner.type and operand and operand.type and not inner.type.accepts(operand.type):
            raise IRError(
                f"operand '{operand.name}' is {operand.type}, its body wants {inner.type}", where=where
            )
    if [v.type for v in body.outputs] != [v.type for v in group.outputs]:
        raise IRError("its outputs are not the body's", where=where)
    _verify(body, set())


def _define(value: Value, graph: Graph, defined: set[Value], names: set[str]) -> None:
    if value.graph is not graph:
        raise IRError("it belongs to another graph", where=f"value '{value.name}'")
    if value.name in names:
        raise IRError("two values have this name", where=f"value '{value.name}'")
    names.add(value.name)
    defined.add(value)


def _verify_constant(value: Value) -> None:
    data, type = value.constant, value.type
    if data is None or type is None or type.shape != data.shape or type.dtype.numpy != data.dtype:
        raise IRError(f"its type {type} is not its data's", where=f"constant '{value.name}'")


def _verify_node(node: Node, graph: Graph, visible: set[Value]) -> None:
    where = f"node '{node.name}' ({node.key})"
    if node.graph is not graph:
        raise IRError("it does not know its graph", where=where)
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value not in visible:
            raise IRError(f"input {index} ('{value.name}') is used before it is defined", where=where)
        if (id(node), index) not in value._uses:
            raise IRError(f"input {index} ('{value.name}') does not know this use", where=where)


def _verify_uses(value: Value, graph: Graph) -> None:
    for use in value.uses:
        if use.node.graph is None or use.node.input(use.index) is not value:
            raise IRError(f"'{use.node.name}' no longer reads it", where=f"value '{value.name}'")
    expected = sum(output is value for output in graph.outputs)
    if value.outputs_of_graph != expected:
        raise IRError(
            f"it counts as {value.outputs_of_graph} outputs, not {expected}", where=f"value '{value.name}'"
        )

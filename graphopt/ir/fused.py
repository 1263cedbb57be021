"""Fused groups: `graphopt.kernel::Fused`, a node whose body is a graph.

A body stands alone: it captures nothing from outside and has no parent. Its inputs correspond to the node's,
its outputs to the node's outputs. Scalars and structural operands are constants of the body; other constants
(weights) are inputs of the node, so that equal bodies with other weights share one kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphopt.errors import IRError
from graphopt.ir.graph import KERNEL, Graph, Node, Origin, Value
from graphopt.ir.structural import structural_inputs

FUSED = "Fused"


def is_fused(node: Node) -> bool:
    return node.domain == KERNEL and node.op_type == FUSED


def body_of(node: Node) -> Graph:
    """The body of a fused group. Raises IRError for any other node."""
    body = node.attr("body")
    if not is_fused(node) or not isinstance(body, Graph):
        raise IRError("it is not a fused group", where=f"node '{node.name}' ({node.key})")
    return body


def fuse_nodes(graph: Graph, nodes: Iterable[Node], origin: Origin | None = None) -> Node:
    """Put `nodes` of `graph` into one group, at the place of the last of them; returns the group.

    Groups among the nodes are merged into the new body. Raises IRError when a path leaves the set and comes
    back, since no order of execution would be right then.
    """
    members = _in_order(graph, nodes)
    inside = set(members)
    _check_convex(members, inside)
    escaping = [value for node in members for value in node.outputs if _escapes(value, inside)]
    body = Graph(members[-1].name, opset=graph.opset)
    body.domains = dict(graph.domains)
    kept = _constants_inside(members)
    mapping: dict[Value, Value] = {}
    inputs: list[Value] = []
    for node in members:
        if is_fused(node):
            _splice(node, body, mapping, inputs)
        else:
            _bring_in(node, kept, body, mapping, inputs)
            body.copy_node(node, mapping)
    for value in escaping:
        body.add_output(mapping[value], value.name)
    merged = origin or members[0].origin.merged(members[-1].origin.rule, members)
    group = graph.add(
        FUSED,
        inputs,
        {"body": body},
        types=[value.type for value in escaping],
        domain=KERNEL,
        name=members[-1].name,
        before=members[-1],
        origin=merged,
    )
    name, names = members[-1].name, [value.name for value in escaping]
    for old, new in zip(escaping, group.outputs, strict=True):
        old.replace_uses(new)
    for node in reversed(members):
        graph.remove(node)
    graph.rename_node(group, name)
    for value_name, value in zip(names, group.outputs, strict=True):
        graph.rename(value, value_name)
    return group


def inline_fused(graph: Graph) -> int:
    """Replace every group of `graph` and of nested graphs by its body's nodes; returns how many."""
    count = 0
    for node in list(graph.nodes):
        if is_fused(node):
            _inline(node)
            count += 1
        else:
            count += sum(inline_fused(nested) for nested in node.subgraphs)
    return count


def _inline(group: Node) -> None:
    graph, body = group.graph, body_of(group)
    assert graph is not None
    mapping: dict[Value, Value] = {}
    for inner, outer in zip(body.inputs, group.inputs, strict=True):
        assert outer is not None
        mapping[inner] = outer
    for value in body.constants:
        assert value.constant is not None
        mapping[value] = graph.add_constant(value.constant, value.name)
    for node in body.nodes:
        graph.copy_node(node, mapping, before=group)
    names = [value.name for value in group.outputs]
    for old, inner in zip(group.outputs, body.outputs, strict=True):
        old.replace_uses(mapping[inner])
    graph.remove(group)
    for name, inner in zip(names, body.outputs, strict=True):
        if mapping[inner].producer is not None and mapping[inner].name != name:
            graph.rename(mapping[inner], name)


def _in_order(graph: Graph, nodes: Iterable[Node]) -> list[Node]:
    wanted = set(nodes)
    if not wanted:
        raise IRError("a group needs a node", where=f"graph '{graph.name}'")
    return [node for node in graph.nodes if node in wanted]


def _escapes(value: Value, inside: set[Node]) -> bool:
    return value.is_graph_output or any(user not in inside for user in value.users)


def _check_convex(members: Sequence[Node], inside: set[Node]) -> None:
    """No value may leave the set and come back through nodes outside it."""
    last = members[-1]
    tainted: set[Node] = set()
    node: Node | None = members[0]
    while node is not None:
        producers = {v.producer for v in node.inputs if v is not None and v.producer is not None}
        if node in inside:
            if producers & tainted:
                raise IRError("a path leaves the group and comes back", where=f"node '{node.name}'")
        elif producers & (inside | tainted):
            tainted.add(node)
        if node is last:
            return
        node = node.next


def _constants_inside(members: Sequence[Node]) -> set[Value]:
    """Constants that the kernel must know: single numbers and structural operands."""
    return {
        value
        for node in members
        for index, value in enumerate(node.inputs)
        if value is not None
        and value.constant is not None
        and (value.constant.size == 1 or index in structural_inputs(node))
    }


def _bring_in(
    node: Node, kept: set[Value], body: Graph, mapping: dict[Value, Value], inputs: list[Value]
) -> None:
    """Give every operand of `node` a counterpart in `body`."""
    for value in node.inputs:
        if value is None or value in mapping:
            continue
        if value in kept and value.constant is not None:
            mapping[value] = body.add_constant(value.constant, value.name)
        else:
            mapping[value] = body.add_input(value.name, value.type)
            inputs.append(value)


def _splice(group: Node, body: Graph, mapping: dict[Value, Value], inputs: list[Value]) -> None:
    """Copy the body of an existing group into `body`."""
    old = body_of(group)
    local: dict[Value, Value] = {}
    for inner, outer in zip(old.inputs, group.inputs, strict=True):
        assert outer is not None
        if outer not in mapping:
            mapping[outer] = body.add_input(outer.name, outer.type)
            inputs.append(outer)
        local[inner] = mapping[outer]
    for value in old.constants:
        assert value.constant is not None
        local[value] = body.add_constant(value.constant, value.name)
    for node in old.nodes:
        body.copy_node(node, local)
    for inner, outer in zip(old.outputs, group.outputs, strict=True):
        mapping[outer] = local[inner]

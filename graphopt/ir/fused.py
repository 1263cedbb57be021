"""Fused groups: `graphopt.kernel::Fused`, a node whose body is a graph.

A body stands alone: it captures nothing from outside and has no parent. Its inputs correspond to the node's,
its outputs to the node's outputs. Scalars and structural operands are constants of the body; other constants
(weights) are inputs of the node, so that equal bodies with other weights share one kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphopt.errors import IRError
from graphopt.ir.graph import KERNEL, Graph, Node
from graphopt.ir.nesting import reads, with_nested
from graphopt.ir.origin import Origin
from graphopt.ir.structural import structural_inputs
from graphopt.ir.value import Value

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

    Groups among the nodes are merged into the new body. Nodes in between that read what the group makes move
    behind it. Raises IRError when a path leaves the set and comes back: no order of execution would be right.
    """
    members = _in_order(graph, nodes)
    last = members[-1]
    readers = _readers_between(members)
    inside = {node for member in members for node in with_nested(member)}
    escaping = [value for node in members for value in node.outputs if _escapes(value, inside)]
    content = _Content(graph, last.name, _constants_inside(members))
    for node in members:
        if is_fused(node):
            content.splice(node)
        else:
            content.add(node)
    for value in escaping:
        content.body.add_output(content.mapping[value], value.name)
    group = graph.add(
        FUSED,
        content.operands,
        {"body": content.body},
        types=[value.type for value in escaping],
        domain=KERNEL,
        name=last.name,
        before=last,
        origin=origin or members[0].origin.merged(last.origin.rule, members),
    )
    behind = last.next
    for node in readers:
        graph.move_before(node, behind)
    name, names = last.name, [value.name for value in escaping]
    for old, new in zip(escaping, group.outputs, strict=True):
        old.replace_uses(new)
    for node in reversed(members):
        graph.remove(node)
    graph.rename_node(group, name)
    for value_name, value in zip(names, group.outputs, strict=True):
        graph.rename(value, value_name)
    return group


def inline_fused(graph: Graph) -> int:
    """Replace every group of `graph` and of nested graphs by its body's nodes; returns how many.

    Undoes `fuse_nodes`: nodes and values get the names they had, as far as these are free.
    """
    constants = {value.name: value for value in graph.constants}
    count = 0
    for node in list(graph.nodes):
        if is_fused(node):
            count += 1 + inline_fused(body_of(node))
            _inline(graph, node, constants)
        else:
            count += sum(inline_fused(nested) for nested in node.subgraphs)
    return count


def _inline(graph: Graph, group: Node, constants: dict[str, Value]) -> None:
    body = body_of(group)
    mapping: dict[Value, Value] = {}
    for inner, outer in zip(body.inputs, group.inputs, strict=True):
        assert outer is not None
        mapping[inner] = outer
    for value in body.constants:
        mapping[value] = _same_constant(graph, value, constants)
    copies = [(node, graph.copy_node(node, mapping, before=group)) for node in body.nodes]
    for old, inner in zip(group.outputs, body.outputs, strict=True):
        old.replace_uses(mapping[inner])
    names = [value.name for value in group.outputs]
    graph.remove(group)
    for node, copy in copies:
        graph.rename_node(copy, node.name, keep_if_taken=True)
        for value, made in zip(node.outputs, copy.outputs, strict=True):
            graph.rename(made, value.name, keep_if_taken=True)
    created = {copy for _, copy in copies}
    for name, inner in zip(names, body.outputs, strict=True):
        if mapping[inner].producer in created:
            graph.rename(mapping[inner], name, keep_if_taken=True)


def _same_constant(graph: Graph, value: Value, constants: dict[str, Value]) -> Value:
    """The constant of `graph` with the name and data of `value`; added, to `constants` too, if need be."""
    assert value.constant is not None
    known = constants.get(value.name)
    if known is None or known.constant is not value.constant:
        known = graph.add_constant(value.constant, value.name)
        known.type = value.type
        constants[known.name] = known
    return known


def _in_order(graph: Graph, nodes: Iterable[Node]) -> list[Node]:
    wanted = set(nodes)
    members = [node for node in graph.nodes if node in wanted]
    if not wanted or len(members) != len(wanted):
        raise IRError("a group needs nodes, all of this graph", where=f"graph '{graph.name}'")
    return members


def _escapes(value: Value, inside: set[Node]) -> bool:
    return value.is_graph_output or any(user not in inside for user in value.users)


def _readers_between(members: Sequence[Node]) -> list[Node]:
    """The nodes between the first and the last member that depend on one and are none.

    Raises IRError when a member depends on such a node.
    """
    inside = set(members)
    tainted: dict[Node, None] = {}
    node: Node | None = members[0]
    while node is not None and node is not members[-1].next:
        producers = {value.producer for value in reads(node)}
        if node not in inside:
            if not producers.isdisjoint(inside) or not producers.isdisjoint(tainted):
                tainted[node] = None
        elif not producers.isdisjoint(tainted):
            raise IRError("a path leaves the group and comes back", where=f"node '{node.name}'")
        node = node.next
    return list(tainted)


def _constants_inside(members: Sequence[Node]) -> set[Value]:
    """Constants that the kernel must know: single numbers and structural operands."""
    structural = {
        value
        for node in members
        for index, value in enumerate(node.inputs)
        if value is not None and value.constant is not None and index in structural_inputs(node)
    }
    single = {
        value
        for node in members
        for value in reads(node)
        if value.constant is not None and value.constant.size == 1
    }
    return structural | single


class _Content:
    """A body under construction. `mapping` leads from values outside to their counterparts in the body."""

    def __init__(self, graph: Graph, name: str, kept: set[Value]) -> None:
        self.body = Graph(name, opset=graph.opset)
        self.body.domains = dict(graph.domains)
        self.kept = kept
        self.constants: dict[str, Value] = {}
        self.mapping: dict[Value, Value] = {}
        self.operands: list[Value] = []

    def add(self, node: Node) -> None:
        for value in reads(node):
            self._operand(value)
        self.body.copy_node(node, self.mapping)

    def splice(self, group: Node) -> None:
        """Copy the nodes of an existing group."""
        old = body_of(group)
        local: dict[Value, Value] = {}
        for inner, outer in zip(old.inputs, group.inputs, strict=True):
            assert outer is not None
            local[inner] = self._operand(outer)
        for value in old.constants:
            assert value.constant is not None
            local[value] = self._constant(value)
        for node in old.nodes:
            self.body.copy_node(node, local)
        for inner, outer in zip(old.outputs, group.outputs, strict=True):
            self.mapping[outer] = local[inner]

    def _operand(self, value: Value) -> Value:
        """The counterpart of an outer value: a constant that is kept inside, or an input of the body."""
        if value not in self.mapping:
            if value in self.kept:
                self.mapping[value] = self._constant(value)
            else:
                self.mapping[value] = self.body.add_input(value.name, value.type, unique=True)
                self.operands.append(value)
        return self.mapping[value]

    def _constant(self, value: Value) -> Value:
        return _same_constant(self.body, value, self.constants)

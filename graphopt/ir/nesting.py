"""What nested graphs read from outside: the operands of If, Loop and Scan that no input list shows."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.ir.graph import Graph, Node
from graphopt.ir.value import Value


def captured(graph: Graph) -> tuple[Value, ...]:
    """Values that nested `graph` reads and does not define, in the order of their first use."""
    if graph.parent is None:
        return ()
    found: dict[Value, None] = {}
    for value in _reads(graph):
        if not _within(value.graph, graph):
            found[value] = None
    return tuple(found)


def reads(node: Node) -> tuple[Value, ...]:
    """Every value that `node` needs: its operands, then what its nested graphs capture; each once."""
    needed: dict[Value, None] = {value: None for value in node.inputs if value is not None}
    for nested in node.subgraphs:
        needed.update(dict.fromkeys(captured(nested)))
    return tuple(needed)


def with_nested(node: Node) -> Iterator[Node]:
    """`node`, then every node of the graphs nested in it."""
    yield node
    for nested in node.subgraphs:
        yield from nested.all_nodes()


def _reads(graph: Graph) -> Iterator[Value]:
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None:
                yield value
        for nested in node.subgraphs:
            if nested.parent is not None:
                yield from _reads(nested)
    yield from graph.outputs


def _within(graph: Graph | None, outer: Graph) -> bool:
    while graph is not None:
        if graph is outer:
            return True
        graph = graph.parent
    return False

"""A graph as a networkx MultiDiGraph, for analyses that someone has already written.

Vertices are the nodes, the graph inputs and, when asked for, the constants (as `Node` and `Value` objects), and one
`Output` for each graph output. Each edge is one use of a value: it runs from what makes the value to what
reads it, carries it as `value`, and has the number of the operand as its key. What a node's nested graphs capture
follows behind its operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.ir.graph import Graph, Node
from graphopt.ir.nesting import captured
from graphopt.ir.value import Value

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True)
class Output:
    """The vertex that reads graph output number `index`."""

    index: int
    name: str


Vertex = Node | Value | Output


def to_networkx(graph: Graph, *, constants: bool = False) -> networkx.MultiDiGraph:
    """The view, a snapshot: later changes of `graph` do not show in it.

    Vertices are in execution order and have a `label`. Without `constants` the edges from constants are missing too.
    Nested graphs are not entered.
    """
    import networkx

    view = networkx.MultiDiGraph(name=graph.name)
    makers: dict[Value, Vertex] = {value: value for value in graph.inputs}
    if constants:
        makers.update((value, value) for value in graph.constants)
    for value in makers:
        view.add_node(value, label=value.name)
    for node in graph.nodes:
        view.add_node(node, label=f"{node.key} {node.name}")
        makers.update((value, node) for value in node.outputs)
        for index, value in _read(node):
            if value in makers:
                view.add_edge(makers[value], node, key=index, value=value)
    for index, (value, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        output = Output(index, name)
        view.add_node(output, label=name)
        if value in makers:
            view.add_edge(makers[value], output, key=0, value=value)
    return view


def _read(node: Node) -> Iterator[tuple[int, Value]]:
    """(operand number, value), then what nested graphs capture, numbered on."""
    for index, value in enumerate(node.inputs):
        if value is not None:
            yield index, value
    inner = dict.fromkeys(value for nested in node.subgraphs for value in captured(nested))
    yield from enumerate(inner, start=len(node.inputs))

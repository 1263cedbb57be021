"""Function expansion: an operator that ONNX defines by others becomes those.

    MeanVarianceNormalization(x)  -->  Div(Sub(x, ReduceMean(x)), Add(Sqrt(Sub(...)), 1e-9))

What a body is made of is expanded in turn. Operators listed in `keep` stay: a back end gives those it has
kernels for, since its own kernel is better than the sum of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import GraphoptError
from graphopt.ir import ONNX, Graph, Node, Origin, Value
from graphopt.ir.nesting import with_nested
from graphopt.onnx_io.functions import function_graph
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics


@dataclass(frozen=True)
class ExpandFunctions(Pass):
    """Replace operators by the functions that define them, except those in `keep`."""

    name: ClassVar[str] = "expand-functions"
    keep: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        waiting = list(reversed(_plain_nodes(graph)))
        while waiting:
            node = waiting.pop()
            made, reason = self._expand(node)
            waiting.extend(reversed(made))
            statistics.tried[self.name] += 1
            if not reason:
                statistics.fired[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
        graph.remove_unused_constants()

    def _expand(self, node: Node) -> tuple[list[Node], str]:
        """The nodes that now stand for `node`, or why it stays."""
        if node.key in self.keep:
            return [], "it is to be kept"
        if node.domain != ONNX or node.subgraphs:
            return [], "it is not a plain ONNX operator"
        try:
            found = function_graph(node)
        except GraphoptError as error:
            return [], str(error)
        if found is None:
            return [], "ONNX does not define it as a function"
        return _splice(node, *found), ""


def _plain_nodes(graph: Graph) -> list[Node]:
    """The nodes of `graph` and of those nested in it; the bodies of fused groups are complete."""
    found = []
    for node in graph.nodes:
        found.append(node)
        for nested in node.subgraphs:
            if nested.parent is not None:
                found.extend(_plain_nodes(nested))
    return found


def _splice(node: Node, body: Graph, operands: dict[str, Value]) -> list[Node]:
    """Put the nodes of `body` in the place of `node`."""
    graph = node.graph
    assert graph is not None
    mapping = {value: operands[value.name] for value in body.values() if value.name in operands}
    for value in body.constants:
        if value not in mapping and value.constant is not None:
            mapping[value] = graph.add_constant(value.constant, value.name)
    made = [graph.copy_node(inner, mapping, before=node) for inner in body.nodes]
    for copy in made:
        for inner in with_nested(copy):
            inner.origin = Origin(ExpandFunctions.name, node.origin.sources)
    for old, new in zip(node.outputs, body.outputs, strict=True):
        value = mapping[new]
        if value.type is None or not value.is_static:
            value.type = old.type
        old.replace_uses(value)
    graph.remove(node)
    return [n for copy in made for n in with_nested(copy)]

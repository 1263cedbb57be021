"""Dead code: nodes whose outputs nobody reads, constants nobody reads.

    y = Relu(x); z = Neg(x); return y  -->  y = Relu(x); return y

Graph inputs stay: they are the model's signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import KERNEL, Graph
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Remove nodes and constants that nothing depends on."""

    name: ClassVar[str] = "eliminate-dead-code"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        statistics.fired[self.name] += sweep(graph)


def sweep(graph: Graph) -> int:
    """Remove dead nodes and constants of `graph` and of the graphs nested in it; returns how many."""
    removed = 0
    node = graph.last
    while node is not None:  # backwards, so that one sweep reaches every producer
        previous = node.previous
        if not any(value.uses or value.is_graph_output for value in node.outputs):
            graph.remove(node)
            removed += 1
        elif node.domain != KERNEL:
            removed += sum(sweep(nested) for nested in node.subgraphs)
        node = previous
    return removed + graph.remove_unused_constants()

"""A residual addition into the kernel of the operand that is computed later.

    Add(Conv(y, W, b), x)        -->   Fused{Conv, Add}(y, W, b, x)
    Relu(Add(Conv(y, W, b), x))  -->   Fused{Conv, Add, Relu}(y, W, b, x)

Only the later operand may take the addition: the other one is then always ready. Mul (a gate) and Sub are treated
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import fuse_nodes
from graphopt.passes.fuse_activations import ACTIVATIONS, anchored, needed_elsewhere
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Statistics

JOINS = ("Add", "Sub", "Mul")


@dataclass(frozen=True)
class FuseResidual(Pass):
    """Put residual additions, and the activation behind them, into the group of their later operand."""

    name: ClassVar[str] = "fuse-residual"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        position = {node: number for number, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            if not node.is_op(*JOINS):
                continue
            later = self.later_operand(node, position)
            reason = self.reason_against(node, later)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if reason or later is None or later.producer is None:
                continue
            members = [later.producer, node, *self._activation(node)]
            number = max(position[m] for m in members)
            group = fuse_nodes(graph, members)
            group.origin = group.origin.merged(self.name, [group])
            position[group] = number
            statistics.fired[self.name] += 1
        graph.remove_unused_constants()

    @staticmethod
    def later_operand(node: Node, position: dict[Node, int]) -> Value | None:
        """The operand that is computed last; None when both are inputs or constants."""
        made = [v for v in node.inputs if v is not None and v.producer is not None]
        return max(made, key=lambda v: position.get(v.producer, -1), default=None)  # type: ignore[arg-type]

    def reason_against(self, node: Node, later: Value | None) -> str:
        """Why the addition stays on its own; empty when it is fused."""
        if later is None or later.producer is None:
            return "no operand is computed"
        if not anchored(later.producer):
            return f"'{later.producer.name}' ({later.producer.key}) is not an anchor"
        if needed_elsewhere(later) or node.inputs[0] is node.inputs[1]:
            return f"'{later.name}' is needed elsewhere too"
        if node.output.shape != later.shape:
            return "the other operand is larger"
        return ""

    @staticmethod
    def _activation(node: Node) -> list[Node]:
        """The activation that is the only reader of the sum."""
        users = node.output.users
        if len(users) != 1 or node.output.is_graph_output or users[0].graph is not node.graph:
            return []
        user = users[0]
        fits = user.is_op(*ACTIVATIONS) and user.inputs[0] is node.output and len(node.output.uses) == 1
        return [user] if fits and user.output.shape == node.output.shape else []

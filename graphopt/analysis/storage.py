"""Where values share bytes, so that nothing is moved.

    Reshape(x), Squeeze(x), ...     has the bytes of x
    kernel::Join(a, b, ...)         whoever makes a, b, ... writes them side by side, and there they are joined
    kernel::Part(x) {offset}        is a stretch of x, from element `offset` on

Join and Part say nothing of axes: they stand where the elements lie one behind the other (`passes/share_buffers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.errors import IRError
from graphopt.ir import KERNEL, Graph, Node, Value

ALIASES = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that change a tensor's shape and not its bytes."""

JOIN, PART = "Join", "Part"


def is_alias(node: Node) -> bool:
    """Whether the output has bytes of the inputs, and costs nothing."""
    return node.is_op(*ALIASES) or node.is_op(JOIN, PART, domain=KERNEL)


@dataclass(frozen=True)
class Stretch:
    """Bytes of a value: those of `root` from element `offset` on."""

    root: Value
    offset: int = 0


class Storage:
    """The stretches of all values of a graph, and which results of computation lie in each.

    Raises IRError for a joined value that has its place already.
    """

    def __init__(self, graph: Graph) -> None:
        self._inside: dict[Value, tuple[Value, int]] = {}
        for node in graph.nodes:
            if is_alias(node):
                self._link(node)
        self._made: dict[Value, list[tuple[Value, int]]] = {}
        for value in graph.values():
            if value.producer is None or not is_alias(value.producer):
                stretch = self.of(value)
                self._made.setdefault(stretch.root, []).append((value, stretch.offset))

    def of(self, value: Value) -> Stretch:
        """Where `value` lies."""
        offset = 0
        while value in self._inside:
            value, step = self._inside[value]
            offset += step
        return Stretch(value, offset)

    def made_in(self, value: Value) -> list[Value]:
        """What computation, or the caller, puts where `value` lies: at least one element of each is in it."""
        stretch = self.of(value)
        made = self._made[stretch.root]
        if len(made) == 1:
            return [made[0][0]]
        end = stretch.offset + value.size
        return [v for v, start in made if start < end and stretch.offset < start + v.size]

    def is_alone(self, value: Value) -> bool:
        """It shares its buffer with nothing else that is computed."""
        return len(self._made[self.of(value).root]) == 1

    def _link(self, node: Node) -> None:
        if node.op_type != JOIN:
            source = node.inputs[0]
            assert source is not None
            self._inside[node.output] = source, node.int("offset")
            return
        start = 0
        for operand in node.inputs:
            assert operand is not None
            place = self.of(operand)
            if place.offset or place.root.size != operand.size or place.root is node.output:
                raise IRError(f"'{operand.name}' has another place already", where=f"node '{node.name}'")
            self._inside[place.root] = node.output, start
            start += operand.size

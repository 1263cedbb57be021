"""The order of execution: a doubly linked list, in which a node is inserted and removed in constant time.

The links are the nodes' own, so that a node knows its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph, Node


class Order:
    """The nodes of `graph`; `node.graph` tells whether a node is among them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.first: Node | None = None
        self.last: Node | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Node]:
        """First to last. Removing the node just given, or inserting, is safe on the way."""
        node = self.first
        while node is not None:
            following = node._next
            yield node
            node = (
                following if following is None or following.graph is self.graph else _resume(node, following)
            )

    def insert(self, node: Node, before: Node | None) -> None:
        """Put a node before another; None: at the end."""
        node.graph = self.graph
        node._next = before
        node._previous = self.last if before is None else before._previous
        if node._previous is None:
            self.first = node
        else:
            node._previous._next = node
        if before is None:
            self.last = node
        else:
            before._previous = node
        self._count += 1

    def remove(self, node: Node) -> None:
        """Take a node out. It keeps its links, so that whoever is at it finds the way back."""
        if node._previous is None:
            self.first = node._next
        else:
            node._previous._next = node._next
        if node._next is None:
            self.last = node._previous
        else:
            node._next._previous = node._previous
        node.graph = None
        self._count -= 1


def _resume(node: Node, following: Node) -> Node | None:
    """Where iteration goes on when the node that came next was removed meanwhile."""
    if node.graph is not None:
        return node._next
    step: Node | None = following
    while step is not None and step.graph is None:
        step = step._next
    return step

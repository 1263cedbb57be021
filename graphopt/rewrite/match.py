"""What a pattern matched, or how close it came."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.errors import IRError
from graphopt.ir import Node, Value

WHOLE_MATCH = 1000
"""The depth of a try that the whole pattern matched: beyond that of any miss within it."""


class Match:
    """What a pattern bound: values by name, nodes by name, and every node it covers (root first).

    `private` are the nodes that must not be used outside the match.
    """

    def __init__(
        self,
        values: Mapping[str, Value | None],
        named: Mapping[str, Node],
        nodes: tuple[Node, ...],
        private: tuple[Node, ...] = (),
    ) -> None:
        self.values = dict(values)
        self.named = dict(named)
        self.nodes = nodes
        self.private = private

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def __getitem__(self, name: str) -> Value:
        """The value bound to `name`. Raises IRError when it is an optional input that is left out."""
        value = self.values[name]
        if value is None:
            raise IRError(
                f"the optional input bound as '{name}' is left out", where=f"node '{self.root.name}'"
            )
        return value

    def get(self, name: str) -> Value | None:
        """The value bound to `name`; None when it is left out or not part of this alternative."""
        return self.values.get(name)

    def data(self, name: str) -> np.ndarray:
        """The data of the constant bound to `name`."""
        data = self[name].constant
        if data is None:
            raise IRError(f"'{name}' is not a constant", where=f"node '{self.root.name}'")
        return data

    def node(self, name: str) -> Node:
        """The node bound by `bind=name`. Raises KeyError when its alternative was not taken."""
        return self.named[name]

    def has(self, name: str) -> bool:
        return name in self.named or self.values.get(name) is not None

    def with_value(self, name: str, value: Value | None) -> Match | None:
        """This match with one more value; None when `name` already means another one."""
        if not name:
            return self
        if name in self.values:
            return self if self.values[name] is value else None
        return Match({**self.values, name: value}, self.named, self.nodes, self.private)

    def with_node(self, name: str, node: Node, shared: bool) -> Match:
        """This match with one more node; the root, which comes first, may always be used outside."""
        nodes = self.nodes if node in self.nodes else (*self.nodes, node)
        private = self.private if shared or not self.nodes else (*self.private, node)
        return Match(self.values, {**self.named, name: node} if name else self.named, nodes, private)


class Misses:
    """The failure that came closest: the deepest one, the first of equals."""

    def __init__(self) -> None:
        self.depth = -1
        self.reason = ""

    def note(self, depth: int, reason: str) -> None:
        if depth > self.depth:
            self.depth, self.reason = depth, reason

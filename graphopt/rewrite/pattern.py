"""The pattern language: what a piece of graph must look like.

    Op("Relu", Op("Conv", Any("x"), Const("w"), Const("b", optional=True), bind="conv"))

matches a Relu whose input is made by a Conv with constant weights, and binds the names. A pattern is
matched backwards from one node, its root. Operands of commutative operators match in either order. What is
matched inside (not the root) must not be used outside the match, or it could not be removed; `shared=True`
on an `Op` lifts that. A match never leaves the root's graph for an enclosing one: a loop's body must not take in
work that is done once outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphopt.ir import ONNX, Attribute, Node, Value
from graphopt.rewrite.match import WHOLE_MATCH, Match, Misses

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal"})


class Pattern:
    """Something a value may match."""

    optional = False

    @property
    def depth(self) -> int:
        """Nodes on the longest path of the pattern: how far from its root it looks."""
        return 0

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        """Every way to match `value`, each extending `match`."""
        raise NotImplementedError


class Any(Pattern):
    """Any value, bound to `name` (empty: not bound). The same name twice means the same value.

    With `optional`, an input that is left out matches too.
    """

    def __init__(self, name: str = "", *, optional: bool = False) -> None:
        self.name = name
        self.optional = optional

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        if value is None and not self.optional:
            misses.note(depth, f"an input ('{self.name}') is left out")
            return
        extended = match.with_value(self.name, value)
        if extended is None:
            misses.note(depth, f"'{_name(value)}' is not the value already bound to '{self.name}'")
            return
        yield extended


class Const(Any):
    """A constant, bound to `name`."""

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        if value is not None and value.constant is None:
            misses.note(depth, f"'{value.name}' is not a constant")
            return
        yield from super().matches(value, match, depth, misses)


class Scalar(Const):
    """A constant of one element; equal to `number` within a relative 1e-5 when one is given.

    The tolerance lets float16 and float32 roundings of numbers such as sqrt(2) match.
    """

    def __init__(self, number: float | None = None, name: str = "", *, optional: bool = False) -> None:
        super().__init__(name, optional=optional)
        self.number = number

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        if value is not None and value.constant is not None:
            scalar = value.scalar()
            if scalar is None:
                misses.note(depth, f"'{value.name}' is not a single number")
                return
            if self.number is not None:
                tolerance = 1e-3 if value.dtype.bits == 16 else 1e-5
                if not abs(float(scalar) - self.number) <= tolerance * max(abs(self.number), 1e-30):
                    misses.note(depth, f"'{value.name}' is {scalar:g}, not {self.number:g}")
                    return
        yield from super().matches(value, match, depth, misses)


class Op(Pattern):
    """The output (`output` = its index) of a node of one of the given types.

    `inputs` are patterns in order; trailing optional ones may be missing. `more` admits further inputs.
    `attributes` are values the node's attributes must have (None: must be absent). `bind` names the node.
    `shared` admits uses of the node's outputs outside the match.
    """

    def __init__(
        self,
        op_types: str | Sequence[str],
        *inputs: Pattern,
        bind: str = "",
        domain: str = ONNX,
        attributes: Mapping[str, Attribute] | None = None,
        output: int = 0,
        more: bool = False,
        shared: bool = False,
    ) -> None:
        self.op_types = (op_types,) if isinstance(op_types, str) else tuple(op_types)
        self.inputs = inputs
        self.bind = bind
        self.domain = domain
        self.attributes = dict(attributes or {})
        self.output = output
        self.more = more
        self.shared = shared

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{self.domain}::{t}" if self.domain else t for t in self.op_types)

    @property
    def depth(self) -> int:
        return 1 + max((pattern.depth for pattern in self.inputs), default=0)

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        wanted = " or ".join(self.op_types)
        if value is None:
            misses.note(depth, f"an input is left out, want {wanted}")
        elif value.producer is None:
            kind = "a constant" if value.is_constant else "a graph input"
            misses.note(depth, f"'{value.name}' is {kind}, want {wanted}")
        elif value.producer.domain != self.domain or value.producer.op_type not in self.op_types:
            node = value.producer
            misses.note(depth, f"'{value.name}' is made by {node.key} '{_known_as(node)}', want {wanted}")
        elif value.index != self.output:
            misses.note(depth, f"'{value.name}' is output {value.index} of its node, want {self.output}")
        elif value.graph is not match.root.graph:
            misses.note(depth, f"'{value.name}' is made outside the nested graph")
        else:
            yield from self.matches_node(value.producer, match, depth, misses)

    def matches_node(self, node: Node, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        """Every way to match `node` itself, whose type is already known to be right."""
        if self.bind and match.named.get(self.bind, node) is not node:
            misses.note(depth, f"'{_known_as(node)}' is not the node already bound to '{self.bind}'")
            return
        for name, wanted in self.attributes.items():
            if node.attr(name) != wanted:
                misses.note(depth, f"{name} of '{_known_as(node)}' is {node.attr(name)!r}, not {wanted!r}")
                return
        inputs = node.inputs
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if len(inputs) > len(self.inputs) and not self.more:
            misses.note(depth, f"'{_known_as(node)}' has {len(inputs)} inputs, want {len(self.inputs)}")
            return
        padded = (*inputs, *(None,) * (len(self.inputs) - len(inputs)))
        found = match.with_node(self.bind, node, self.shared)
        yield from self._operands(padded[: len(self.inputs)], found, depth + 1, misses)
        if len(self.inputs) == 2 and node.domain == ONNX and node.op_type in COMMUTATIVE:
            yield from self._operands(padded[1::-1], found, depth + 1, misses)

    def _operands(
        self, values: Sequence[Value | None], match: Match, depth: int, misses: Misses, index: int = 0
    ) -> Iterator[Match]:
        if index == len(self.inputs):
            yield match
            return
        pattern, value = self.inputs[index], values[index]
        if value is None and pattern.optional and not isinstance(pattern, Any):
            yield from self._operands(values, match, depth, misses, index + 1)
            return
        for extended in pattern.matches(value, match, depth, misses):
            yield from self._operands(values, extended, depth, misses, index + 1)


class Either(Pattern):
    """Whatever one of the alternatives matches; the first that leads to a whole match is taken."""

    def __init__(self, *alternatives: Pattern) -> None:
        self.alternatives = alternatives
        self.optional = any(p.optional for p in alternatives)

    @property
    def depth(self) -> int:
        return max((pattern.depth for pattern in self.alternatives), default=0)

    def matches(self, value: Value | None, match: Match, depth: int, misses: Misses) -> Iterator[Match]:
        for alternative in self.alternatives:
            yield from alternative.matches(value, match, depth, misses)


def find(pattern: Op, node: Node, misses: Misses) -> Match | None:
    """The first match of `pattern` at `node` that may be removed from the graph, or None.

    `misses` receives the reason of the closest failure.
    """
    for match in pattern.matches_node(node, Match({}, {}, ()), 0, misses):
        reason = _escapes(match)
        if not reason:
            return match
        misses.note(WHOLE_MATCH, reason)
    return None


def _escapes(match: Match) -> str:
    """Why an inner node of the match cannot be removed, or an empty string."""
    for node in match.private:
        for value in node.outputs:
            if value.is_graph_output:
                return f"'{value.name}' (made by {node.key} '{_known_as(node)}') is a graph output"
            for user in value.users:
                if user not in match.nodes:
                    made = f"'{value.name}' (made by {node.key} '{_known_as(node)}')"
                    return f"{made} is also used by {user.key} '{_known_as(user)}'"
    return ""


def _known_as(node: Node) -> str:
    return node.origin.known_as(node.name)


def _name(value: Value | None) -> str:
    return "nothing" if value is None else value.name

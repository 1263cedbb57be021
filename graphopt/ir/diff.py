"""The difference of two graphs, for people.

Inputs, constants, nodes and outputs are matched by name, which passes keep where they can; what has no partner was
added or removed, what has one may have changed, and how is told. Where all of it is equal and the graphs are not
(another order, an opset), the first difference is told.

    graph main: 3 -> 2 nodes
    - %h: float32[N, 4] = BatchNormalization(%g, %s, %b, %m, %v) @bn
    ~ @conv (Conv): operand 1 %w -> %w_1; pads [0, 0] -> [1, 1]
    + const %w_1: float32[8, 4] = sha256:0d4f6f2c5a9be1c3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.ir.compare import Dims, first_difference, same_attribute, same_data
from graphopt.ir.graph import Attribute, Graph, Node
from graphopt.ir.text import Excerpt
from graphopt.ir.value import Value

SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True)
class Change:
    """One line of a difference. `what` is an input, a constant, a node, an output, or the graph itself."""

    kind: Literal["added", "removed", "changed"]
    what: Literal["input", "constant", "node", "output", "graph"]
    name: str
    text: str

    def __str__(self) -> str:
        return f"{SIGNS[self.kind]} {self.text}"


@dataclass(frozen=True)
class Difference:
    """All changes from one graph to another; false when there is none."""

    title: str
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return "\n".join([self.title, *map(str, self.changes)]) if self.changes else f"{self.title}: equal"

    def of(self, kind: str, what: str) -> tuple[str, ...]:
        """Names of what changed that way."""
        return tuple(c.name for c in self.changes if (c.kind, c.what) == (kind, what))


def diff(a: Graph, b: Graph) -> Difference:
    """What leads from `a` to `b`. Origins do not count."""
    changes = tuple(_Differ(a, b, Dims()).changes())
    if not changes and (found := first_difference(a, b)):
        changes = (Change("changed", "graph", a.name, found),)
    count = f"{len(a)} -> {len(b)} nodes" if len(a) != len(b) else f"{len(a)} nodes"
    return Difference(f"graph {a.name}: {count}", changes)


class _Differ:
    """One comparison. `dims` pairs dimensions that nobody named, as far as they were met."""

    def __init__(self, a: Graph, b: Graph, dims: Dims) -> None:
        self.a, self.b = a, b
        self.dims = dims
        self.old, self.new = Excerpt(), Excerpt()

    def changes(self) -> Iterator[Change]:
        yield from self.values("input", self.a.inputs, self.b.inputs, lambda excerpt, v: excerpt.input(v))
        yield from self.nodes()
        yield from self.outputs()
        yield from self.values(
            "constant", self.a.constants, self.b.constants, lambda excerpt, v: excerpt.constant(v)
        )

    def values(
        self,
        what: Literal["input", "constant"],
        before: Sequence[Value],
        after: Sequence[Value],
        text: Callable[[Excerpt, Value], str],
    ) -> Iterator[Change]:
        partners = {value.name: value for value in after}
        for value in before:
            partner = partners.pop(value.name, None)
            if partner is None:
                yield Change("removed", what, value.name, text(self.old, value))
            elif found := self.value_changes(value, partner):
                yield Change("changed", what, value.name, f"{what} %{value.name}: {found}")
        for value in partners.values():
            yield Change("added", what, value.name, text(self.new, value))

    def value_changes(self, a: Value, b: Value) -> str:
        if not self.dims.same_type(a.type, b.type):
            return f"{a.type} -> {b.type}"
        if a.constant is None or b.constant is None or same_data(a.constant, b.constant):
            return ""
        return _data_change(a.constant, b.constant)

    def nodes(self) -> Iterator[Change]:
        """In the order of `a`; what was added stands where `b` has it."""
        after = list(self.b.nodes)
        place = {node.name: number for number, node in enumerate(after)}
        known = {node.name for node in self.a.nodes}
        start = 0
        for node in self.a.nodes:
            if node.name not in place:
                yield Change("removed", "node", node.name, self.old.node(node))
                continue
            end = place[node.name]
            yield from self.added(after[start:end], known)
            start = max(start, end)
            partner = after[end]
            if node.key != partner.key:
                text = f"@{node.name}, was {node.key}: {self.new.node(partner)}"
                yield Change("changed", "node", node.name, text)
            elif found := "; ".join(self.node_changes(node, partner)):
                yield Change("changed", "node", node.name, f"@{node.name} ({node.key}): {found}")
        yield from self.added(after[start:], known)

    def added(self, nodes: Sequence[Node], known: set[str]) -> Iterator[Change]:
        for node in nodes:
            if node.name not in known:
                yield Change("added", "node", node.name, self.new.node(node))

    def node_changes(self, a: Node, b: Node) -> Iterator[str]:
        for index in range(max(len(a.inputs), len(b.inputs))):
            before, after = _name(a.input(index)), _name(b.input(index))
            if before != after:
                yield f"operand {index} {before} -> {after}"
        for key in sorted(a.attributes.keys() | b.attributes.keys()):
            x, y = a.attributes.get(key), b.attributes.get(key)
            if isinstance(x, Graph) and isinstance(y, Graph):
                if inner := "; ".join(map(str, _Differ(x, y, self.dims).changes())):
                    yield f"{key} {{{inner}}}"
            elif not same_attribute(x, y):
                yield f"{key} {self.attribute(x)} -> {self.attribute(y)}"
        for index in range(max(len(a.outputs), len(b.outputs))):
            yield from self.result_changes(a.outputs[index : index + 1], b.outputs[index : index + 1])

    def result_changes(self, before: Sequence[Value], after: Sequence[Value]) -> Iterator[str]:
        if not before or not after:
            yield f"result {_name(next(iter(before), None))} -> {_name(next(iter(after), None))}"
            return
        if before[0].name != after[0].name:
            yield f"result {_name(before[0])} -> {_name(after[0])}"
        if found := self.value_changes(before[0], after[0]):
            yield f"{_name(after[0])} {found}"

    def attribute(self, value: Attribute) -> str:
        return "nothing" if value is None else self.new.attribute(value)

    def outputs(self) -> Iterator[Change]:
        after = dict(zip(self.b.output_names, self.b.outputs, strict=True))
        for name, value in zip(self.a.output_names, self.a.outputs, strict=True):
            partner = after.pop(name, None)
            if partner is None:
                yield Change("removed", "output", name, f"output {name}: {_name(value)}")
            elif partner.name != value.name:
                yield Change("changed", "output", name, f"output {name}: {_name(value)} -> {_name(partner)}")
        for name, value in after.items():
            yield Change("added", "output", name, f"output {name}: {_name(value)}")


def _data_change(a: np.ndarray, b: np.ndarray) -> str:
    """How far apart the data of two constants of one type are."""
    if a.dtype == object:
        return "other texts"
    differ = (a != b) & ~((a != a) & (b != b))  # a NaN equals a NaN
    if not differ.any():
        return "other bits of equal numbers"
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(a[differ].astype(wide) - b[differ].astype(wide)).max())
    return f"{np.count_nonzero(differ)} of {a.size} elements differ, by {largest:.3g} at most"


def _name(value: Value | None) -> str:
    return "nothing" if value is None else f"%{value.name}"

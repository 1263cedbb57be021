"""Whether two graphs are the same, and where they first part.

Nodes are compared in execution order. Dimensions that nobody named are equal when one renaming makes all of
them so; constants are equal when their bits are.
"""

from __future__ import annotations

import struct

import numpy as np

from graphopt.ir.graph import Attribute, Graph, Node
from graphopt.ir.literals import raw_bytes
from graphopt.ir.types import Shape, TensorType
from graphopt.ir.value import Value


def equal(a: Graph, b: Graph, *, names: bool = True, origins: bool = False) -> bool:
    """True when `a` and `b` are the same graph; see `first_difference`."""
    return first_difference(a, b, names=names, origins=origins) == ""


def first_difference(a: Graph, b: Graph, *, names: bool = True, origins: bool = False) -> str:
    """Where `a` and `b` first differ, in words; empty when they are equal.

    Without `names`, the names of nodes, constants and inner values do not count; those of inputs and outputs
    always do. With `origins`, the origin of each node counts too.
    """
    return _Comparison(names, origins).graphs(a, b)


def same_data(a: np.ndarray, b: np.ndarray) -> bool:
    """The same type, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == object:
        return [(type(x), x) for x in a.flat] == [(type(x), x) for x in b.flat]
    return a is b or raw_bytes(a) == raw_bytes(b)


class Dims:
    """A growing one-to-one renaming between the unnamed dimensions of two graphs."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def same_type(self, a: TensorType | None, b: TensorType | None) -> bool:
        if a is None or b is None:
            return a is b
        return a.dtype is b.dtype and a.layout == b.layout and self._same_shape(a.shape, b.shape)

    def _same_shape(self, a: Shape | None, b: Shape | None) -> bool:
        if a is None or b is None:
            return a is b
        return len(a) == len(b) and all(self._same_dim(x, y) for x, y in zip(a, b, strict=True))

    def _same_dim(self, a: int | str, b: int | str) -> bool:
        if isinstance(a, str) and isinstance(b, str) and a.startswith("?") and b.startswith("?"):
            return self._there.setdefault(a, b) == b and self._back.setdefault(b, a) == a
        return a == b


class _Comparison:
    """One comparison of two graphs with their nested ones. `pairs` leads from values of one to the other."""

    def __init__(self, names: bool, origins: bool) -> None:
        self.names = names
        self.origins = origins
        self.dims = Dims()
        self.pairs: dict[Value, Value] = {}

    def graphs(self, a: Graph, b: Graph) -> str:
        where = f"graph '{a.name}'"
        heads = [(g.opset, g.domains, g.metadata, g.output_names, g.parent is None) for g in (a, b)]
        if heads[0] != heads[1]:
            return f"{where}: versions, metadata or output names differ"
        if self.names and a.name != b.name:
            return f"{where} is called '{b.name}'"
        if len(a.inputs) != len(b.inputs):
            return f"{where}: {len(a.inputs)} and {len(b.inputs)} inputs"
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)} nodes"
        for x, y in zip(a.inputs, b.inputs, strict=True):
            if found := self.values(x, y, always_named=a.parent is None):
                return found
        if found := self.constants(a, b):
            return found
        for node, other in zip(a.nodes, b.nodes, strict=True):
            if found := self.nodes(node, other):
                return found
        for x, y in zip(a.outputs, b.outputs, strict=True):
            if not self.same(x, y):
                return f"{where}: output '{x.name}' is '{y.name}'"
        return ""

    def constants(self, a: Graph, b: Graph) -> str:
        """Pair constants by name; without names they are paired where they are used."""
        if not self.names:
            return ""
        there = {value.name: value for value in b.constants}
        if odd := sorted(there.keys() ^ {value.name for value in a.constants}):
            return f"only one graph has the constant '{odd[0]}'"
        for value in a.constants:
            if found := self.constant(value, there[value.name]):
                return found
        return ""

    def constant(self, a: Value, b: Value) -> str:
        assert a.constant is not None and b.constant is not None
        if not same_data(a.constant, b.constant):
            return f"constant '{a.name}': the data differ"
        return self.values(a, b)

    def same(self, a: Value | None, b: Value | None) -> bool:
        """Whether `b` stands where `a` does. A value of neither graph stands for itself."""
        if a is None or b is None:
            return a is b
        if a not in self.pairs and a.is_constant and b.is_constant and not self.names:
            return self.constant(a, b) == ""
        return self.pairs.get(a, a) is b

    def values(self, a: Value, b: Value, always_named: bool = False) -> str:
        self.pairs[a] = b
        if (self.names or always_named) and a.name != b.name:
            return f"value '{a.name}' is called '{b.name}'"
        if not self.dims.same_type(a.type, b.type):
            return f"value '{a.name}': {a.type} is {b.type}"
        return ""

    def nodes(self, a: Node, b: Node) -> str:
        where = f"node '{a.name}' ({a.key})"
        if a.key != b.key:
            return f"{where} is {b.key}"
        if self.names and a.name != b.name:
            return f"{where} is called '{b.name}'"
        if self.origins and a.origin != b.origin:
            return f"{where}: {a.origin} is {b.origin}"
        if len(a.inputs) != len(b.inputs):
            return f"{where}: {len(a.inputs)} and {len(b.inputs)} operands"
        for index, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True)):
            if not self.same(x, y):
                return f"{where}: operand {index} is {_name(x)} and {_name(y)}"
        if a.attributes.keys() != b.attributes.keys():
            return f"{where}: attributes {sorted(a.attributes)} are {sorted(b.attributes)}"
        for key in sorted(a.attributes):
            if found := self.attributes(a.attributes[key], b.attributes[key]):
                return f"{where}: attribute '{key}': {found}"
        if len(a.outputs) != len(b.outputs):
            return f"{where}: {len(a.outputs)} and {len(b.outputs)} outputs"
        for x, y in zip(a.outputs, b.outputs, strict=True):
            if found := self.values(x, y):
                return f"{where}: {found}"
        return ""

    def attributes(self, a: Attribute, b: Attribute) -> str:
        if isinstance(a, Graph) and isinstance(b, Graph):
            return self.graphs(a, b)
        return "" if same_attribute(a, b) else f"{a!r} is {b!r}"


def same_attribute(a: Attribute, b: Attribute) -> bool:
    """Equal in kind and bits, so that 1 is not 1.0 and a NaN is itself; a graph equals only itself."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same_attribute(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return same_data(a, b)
    if isinstance(a, FLOAT) and isinstance(b, FLOAT):
        return struct.pack("<d", a) == struct.pack("<d", b)
    alike = any(isinstance(a, kind) and isinstance(b, kind) for kind in (INTEGER, str, bytes))
    return a is b or (alike and a == b)


FLOAT = (float, np.floating)
INTEGER = (int, np.integer)


def _name(value: Value | None) -> str:
    return "left out" if value is None else f"'{value.name}'"

"""When each tensor is alive, and how many bytes are at each step.

A step runs one node. A tensor lives from the step that writes it to the last step that reads it, both
included. Nodes that only rename bytes (`analysis/storage.py`) are no steps: their output is their inputs, which live
on for its sake. A tensor that is joined with others counts from when it is written, not from when the first of them
is. Constants, graph inputs and graph outputs are not counted: they have a place of their own, in the library or with
the caller. The memory plan places exactly these tensors, so that its lower bound is `Liveness.peak_bytes` wherever
kernels need no workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from graphopt.analysis.storage import Storage, is_alias
from graphopt.ir import Graph, Node, Value
from graphopt.ir.nesting import reads


@dataclass(frozen=True)
class Lifetime:
    """`value` is alive from step `first` to step `last`, both included.

    `size` is in bytes, every element whole, rounded up to the alignment unless the tensor is joined with others; None
    when a dimension is a symbol.
    """

    value: Value
    size: int | None
    first: int
    last: int


@dataclass(frozen=True)
class Liveness:
    """The steps of a graph in its order, and what lives when."""

    steps: tuple[Node, ...]
    lifetimes: tuple[Lifetime, ...]

    @cached_property
    def bytes_at(self) -> tuple[int | None, ...]:
        """Bytes alive at each step; None where a tensor's size is unknown."""
        changes = [0] * (len(self.steps) + 1)
        unknown = [0] * (len(self.steps) + 1)
        for life in self.lifetimes:
            changes[life.first] += life.size or 0
            changes[life.last + 1] -= life.size or 0
            unknown[life.first] += life.size is None
            unknown[life.last + 1] -= life.size is None
        alive = open_ends = 0
        found: list[int | None] = []
        for step in range(len(self.steps)):
            alive += changes[step]
            open_ends += unknown[step]
            found.append(None if open_ends else alive)
        return tuple(found)

    @property
    def peak_bytes(self) -> int | None:
        """The most bytes alive at one step; None when a tensor's size is unknown."""
        known = [count for count in self.bytes_at if count is not None]
        return max(known, default=0) if len(known) == len(self.steps) else None

    @property
    def peak_step(self) -> int | None:
        """The first step at which most bytes are alive; None without steps or sizes."""
        return None if self.peak_bytes is None or not self.steps else self.bytes_at.index(self.peak_bytes)


def liveness(graph: Graph, *, alignment: int = 1, varying: bool = False) -> Liveness:
    """The lives of what `graph` computes in between; what nested graphs compute is not seen.

    A tensor of which parts are read counts whole up to the last of them; the plan of memory lets its stretches go one
    by one. With `varying`, tensors that depend on constants alone are left out: those that folding would compute once.
    """
    steps = tuple(node for node in graph.nodes if not is_alias(node) and not _is_empty(node))
    storage = Storage(graph)
    elsewhere = {made for value in graph.outputs for made in storage.made_in(value)}
    if varying:
        elsewhere |= fixed_values(graph)
    last_read: dict[Value, int] = {}
    for number, node in enumerate(steps):
        for value in reads(node):
            last_read.update(dict.fromkeys(storage.made_in(value), number))
    lifetimes = [
        Lifetime(
            value,
            _size(value, alignment if storage.is_alone(value) else 1),
            number,
            last_read.get(value, number),
        )
        for number, node in enumerate(steps)
        for value in node.outputs
        if value not in elsewhere
    ]
    return Liveness(steps, tuple(lifetimes))


def fixed_values(graph: Graph) -> set[Value]:
    """The values that depend on constants alone."""
    fixed = set(graph.constants)
    for node in graph.nodes:
        needed = reads(node)
        if needed and fixed.issuperset(needed):
            fixed.update(node.outputs)
    return fixed


def _is_empty(node: Node) -> bool:
    """Nothing is written: every output has zero elements."""
    return all(v.is_static and 0 in v.static_shape for v in node.outputs)


def _size(value: Value, alignment: int) -> int | None:
    if not value.is_static:
        return None
    size = value.type.size * value.dtype.numpy.itemsize if value.type else 0
    return -(-size // alignment) * alignment

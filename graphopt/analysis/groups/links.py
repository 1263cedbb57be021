"""What ties the indices of tensors' axes together, as the rules of operators tell it.

A `Dimension` is one axis of a value, or of a constant as one node reads it: two nodes that read one constant may come
to read different parts of it. Between dimensions there are

    alike     index i of the one goes with index i of the other (an element-wise operator, a product's inner axis)
    parts     chosen indices of the one go with chosen indices of the other (a Concat, a flattened image)
    pinned    no index may go (a graph's output, rows that a Softmax adds up)
    coupled   an index may go, and changes what is left (LayerNormalization along it)

What a rule leaves unsaid is pinned, so that an operator that no rule knows is safe.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphopt.ir import Node, Use, Value

Holder = Value | Use
"""A value that is computed, or one operand of a node where that is a constant."""


@dataclass(frozen=True)
class Dimension:
    """Axis `axis` (non-negative) of what `holder` stands for."""

    holder: Holder
    axis: int

    @property
    def value(self) -> Value:
        return value_of(self.holder)

    @property
    def size(self) -> int | None:
        """None where it is a symbol."""
        shape = self.value.shape
        assert shape is not None
        length = shape[self.axis]
        return length if isinstance(length, int) else None

    @property
    def is_constant(self) -> bool:
        return isinstance(self.holder, Use)


def value_of(holder: Holder) -> Value:
    """The value that a holder stands for."""
    if isinstance(holder, Value):
        return holder
    value = holder.node.inputs[holder.index]
    assert value is not None
    return value


@dataclass(frozen=True)
class Part:
    """Element k of `first_indices` of the one dimension goes with element k of `second_indices` of the other."""

    first: Dimension
    first_indices: np.ndarray
    second: Dimension
    second_indices: np.ndarray


@dataclass
class Links:
    """All that was told so far. `read` are dimensions of constants that are summed over."""

    alike: list[tuple[Dimension, Dimension]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    pinned: dict[Dimension, str] = field(default_factory=dict)
    coupled: dict[Dimension, str] = field(default_factory=dict)
    read: set[Dimension] = field(default_factory=set)
    _touched: set[Dimension] = field(default_factory=set)

    def same(self, first: Dimension | None, second: Dimension | None) -> None:
        """Index by index; where lengths differ, or are not known, both are pinned."""
        if first is None or second is None:
            return
        self._touched |= {first, second}
        if first.size is None or first.size != second.size:
            for dimension in (first, second):
                self.pinned.setdefault(dimension, "its length is not known")
        else:
            self.alike.append((first, second))

    def link(
        self, first: Dimension, first_indices: np.ndarray, second: Dimension, second_indices: np.ndarray
    ) -> None:
        """Chosen indices of one with chosen indices of the other, or of the same, dimension."""
        self._touched |= {first, second}
        self.parts.append(Part(first, first_indices, second, second_indices))

    def free(self, dimension: Dimension) -> None:
        """An axis that the node takes as it comes."""
        self._touched.add(dimension)

    def pin(self, dimension: Dimension, reason: str) -> None:
        self._touched.add(dimension)
        self.pinned.setdefault(dimension, reason)

    def couple(self, dimension: Dimension, reason: str) -> None:
        self.coupled.setdefault(dimension, reason)

    def sums_over(self, dimension: Dimension) -> None:
        """An axis of an operand that is summed over: of a constant, the rows that read a channel."""
        if dimension.is_constant:
            self.read.add(dimension)

    def begin(self) -> None:
        """The next node's rule is about to speak."""
        self._touched = set()

    def finish(self, node: Node, holders: list[Holder]) -> None:
        """Pin what the rule of `node` left unsaid of `holders`."""
        for holder in holders:
            for dimension in dimensions_of(holder):
                if dimension not in self._touched and not dimension.is_constant:
                    told = f"'{node.origin.known_as(node.name)}' ({node.key}) needs it whole"
                    self.pinned.setdefault(dimension, told)


def operand(node: Node, index: int) -> Holder | None:
    """The holder of input `index`; None where it is left out."""
    value = node.input(index)
    if value is None:
        return None
    return Use(node, index) if value.constant is not None else value


def dimension(holder: Holder | None, axis: int) -> Dimension | None:
    """Axis `axis`, from behind where negative; None without a holder. The rank must be known and reach so far."""
    if holder is None:
        return None
    rank = value_of(holder).rank
    assert rank is not None and -rank <= axis < rank
    return Dimension(holder, axis % rank)


def dimensions_of(holder: Holder) -> list[Dimension]:
    """All of them; none where the rank is not known."""
    return [Dimension(holder, axis) for axis in range(value_of(holder).rank or 0)]

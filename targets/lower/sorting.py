"""TopK: a heap of the best k, kept in the outputs, with the worst of them on top (Williams, 1964).

An element that beats the top takes its place and sinks; at the end the tops, taken off one by one, are the
order from the worst to the best. n elements cost n log k comparisons, and most need a single one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Node
from graphopt.targets.lower.arithmetic import is_float, signed
from graphopt.targets.lower.kernel import Literal, Memory, Writer, folded, write_kernel
from graphopt.targets.lower.tensors import Expr, normalise_axis, widen

Entry = tuple[Expr, Expr]
"""A value and its position on the axis."""


@dataclass(frozen=True)
class Order:
    """Which entry comes first. NaN is the greatest number, as for numpy; of equals the lower index comes first."""

    largest: bool
    dtype: str

    def before(self, left: Entry, right: Entry) -> Expr:
        a, b = signed(widen(left[0])), signed(widen(right[0]))
        return tirx.Or(self._beats(a, b), tirx.And(self._equals(a, b), left[1] < right[1]))

    def last(self) -> Expr:
        """A value that no other one comes after."""
        if is_float(self.dtype):
            return tirx.const(-math.inf if self.largest else math.nan, self.dtype)
        return (tirx.min_value if self.largest else tirx.max_value)(self.dtype)

    def _beats(self, a: Expr, b: Expr) -> Expr:
        result = a > b if self.largest else a < b
        if not is_float(self.dtype):
            return result
        winner, loser = (a, b) if self.largest else (b, a)
        return tirx.Or(result, tirx.And(tirx.isnan(winner), tirx.Not(tirx.isnan(loser))))

    def _equals(self, a: Expr, b: Expr) -> Expr:
        # Not "neither beats the other": TVM simplifies `not a > b` to `a <= b`, which is wrong for NaN.
        same = tirx.EQ(a, b)
        return tirx.Or(same, tirx.And(tirx.isnan(a), tirx.isnan(b))) if is_float(self.dtype) else same


@dataclass(frozen=True)
class Heap:
    """The entries of one row: `values[row, ., column]` and `places[row, ., column]`."""

    values: Memory
    places: Memory
    row: Expr
    column: Expr
    order: Order
    hole: Memory
    child: Memory

    def entry(self, position: Expr | int) -> Entry:
        at = (self.row, position, self.column)
        return self.values[at], self.places[at]

    def put(self, position: Expr | int, entry: Entry) -> None:
        self.values.store(entry[0], self.row, position, self.column)
        self.places.store(entry[1], self.row, position, self.column)

    def sink(self, entry: Entry, size: Expr | int) -> None:
        """Put `entry` in place of the top of the first `size` entries, and restore their order."""
        hole, child = self.hole, self.child
        hole.store(tirx.const(0, "int32"), 0)
        child.store(tirx.const(1, "int32"), 0)
        with T.While(child[0] < size):
            with T.If(child[0] + 1 < size), T.Then():
                later = self.order.before(self.entry(child[0]), self.entry(child[0] + 1))
                with T.If(later), T.Then():
                    child.store(child[0] + 1, 0)
            with T.If(self.order.before(entry, self.entry(child[0]))):
                with T.Then():
                    self.put(hole[0], self.entry(child[0]))
                    hole.store(child[0], 0)
                    child.store(2 * child[0] + 1, 0)
                with T.Else():
                    child.store(tirx.const(2**30, "int32"), 0)
        self.put(hole[0], entry)


def _top_k(node: Node) -> tirx.PrimFunc:
    """The first k elements along an axis, and where they were, in order."""
    x = node.inputs[0]
    assert x is not None
    axis = normalise_axis(node.int("axis", -1), len(x.static_shape))
    outer, along, inner = folded(x.static_shape, axis)
    k = node.output.static_shape[axis]
    work = outer * along * inner

    def build(write: Writer) -> None:
        data = write.operand(0)
        values, places = (write.result_or_scratch(number, (outer, k, inner)) for number in (0, 1))
        order = Order(bool(node.int("largest", 1)), data.dtype)
        with write.each(outer * inner, work=work) as number:
            row, column = tirx.indexdiv(number, inner), tirx.indexmod(number, inner)
            scratch = write.scratch((1,), "int32"), write.scratch((1,), "int32")
            heap = Heap(values, places, row, column, order, *scratch)
            _select(write, heap, data, along, k)
            _sort(write, heap, k)

    return write_kernel(node, build, [(outer, along, inner), None, (outer, k, inner), (outer, k, inner)])


def _select(write: Writer, heap: Heap, data: Memory | Literal, along: int, k: int) -> None:
    with write.serial(k) as position:
        heap.put(position, (heap.order.last(), tirx.const(along, "int64")))
    with write.serial(along) as step:
        entry = T.bind(data[heap.row, step, heap.column]), T.bind(step.astype("int64"))
        with T.If(heap.order.before(entry, heap.entry(0))), T.Then():
            heap.sink(entry, k)


def _sort(write: Writer, heap: Heap, k: int) -> None:
    with write.serial(k - 1) as number:
        last = k - 1 - number
        value, place = heap.entry(last)
        entry = T.bind(value), T.bind(place)
        heap.put(last, heap.entry(0))
        heap.sink(entry, last)


OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {"TopK": _top_k}

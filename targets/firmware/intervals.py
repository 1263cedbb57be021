"""Integers of a lowered function in numpy: the least and the greatest value of an expression, in all rounds at once.

A variable stands for an array of its values, one axis for each loop that is followed, or for the range of what it may
be. Whatever is not known is anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import Call, TensorLoad

from graphopt.targets.lower.tensors import Expr, dtype_of

Array = np.ndarray
FARTHEST = 1 << 31
"""Further than any index: products of two such numbers fit 64 bits."""


@dataclass(frozen=True)
class Interval:
    """Integers from `low` to `high`, both included; one array where it is known which."""

    low: Array
    high: Array

    @property
    def is_exact(self) -> bool:
        return self.low is self.high

    def is_one_along(self, axis: int) -> bool:
        """It does not depend on the round that the axis counts."""
        return all(end.ndim <= axis or end.shape[axis] == 1 for end in (self.low, self.high))

    def over(self, axis: int) -> Interval:
        """What it may be in any of those rounds."""
        low, high = (end if end.ndim > axis else np.expand_dims(end, 0) for end in (self.low, self.high))
        if low.ndim <= axis or high.ndim <= axis:
            return ANYTHING
        return Interval(low.min(axis, keepdims=True), high.max(axis, keepdims=True))


def exactly(values: Array | int) -> Interval:
    array = np.asarray(values, np.int64)
    return Interval(array, array)


def between(low: Array | int, high: Array | int) -> Interval:
    return Interval(np.asarray(low, np.int64), np.asarray(high, np.int64))


ANYTHING = between(-FARTHEST, FARTHEST)
TRUTH = between(0, 1)


def _truncated(a: Array, b: Array) -> Array:
    return np.where(a < 0, -(-a // b), a // b)


INCREASING: Mapping[object, Callable[[Array, Array], Array]] = {
    tirx.Add: np.add,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.And: np.minimum,
    tirx.Or: np.maximum,
}
"""What does not get smaller when an operand gets larger."""

BY_CONSTANT: Mapping[object, Callable[[Array, Array], Array]] = {
    tirx.FloorDiv: np.floor_divide,
    tirx.Div: _truncated,
    tirx.RShift: np.right_shift,
    "shift_right": np.right_shift,
    tirx.LShift: np.left_shift,
    "shift_left": np.left_shift,
}
"""What does not get smaller when the first operand gets larger, and the second is one positive number."""

REMAINDERS = (tirx.FloorMod, tirx.Mod)
MASKS = (tirx.BitwiseAnd, "bitwise_and")
ORDERS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE)


@dataclass
class Evaluator:
    """`known` are the values of variables, and of buffers of one number. With `lanes` the elements of a vector are an
    axis of their own, which this array counts along; otherwise a vector is the range of its elements."""

    known: dict[tirx.Var, Interval] = field(default_factory=dict)
    lanes: Array | None = None

    def __call__(self, e: Expr) -> Interval:
        found = self._value(e)
        if found.is_exact:
            return found
        return between(np.maximum(found.low, -FARTHEST), np.minimum(found.high, FARTHEST))

    def _value(self, e: Expr) -> Interval:
        if isinstance(e, tirx.IntImm):
            return exactly(int(e.value))
        if isinstance(e, tirx.Var):
            return self.known.get(e, ANYTHING)
        if isinstance(e, tirx.Broadcast):
            return self(e.value)
        if isinstance(e, tirx.Ramp):
            return self._ramp(self(e.base), int(e.stride), int(e.lanes))
        if isinstance(e, tirx.Let):
            self.known[e.var] = self(e.value)
            return self(e.body)
        if isinstance(e, tirx.Cast):
            kinds = (tvm.DataType(dtype_of(e)), tvm.DataType(dtype_of(e.value)))
            whole = all(str(kind).startswith(("int", "uint", "bool")) for kind in kinds)
            return self(e.value) if whole and kinds[0].bits >= kinds[1].bits else ANYTHING
        if isinstance(e, TensorLoad):
            return self.known.get(e.source, ANYTHING)
        if isinstance(e, tirx.Not):
            a = self(e.a)
            return between(1 - a.high, 1 - a.low)
        if isinstance(e, tirx.Select):
            return _chosen(self(e.condition), self(e.true_value), self(e.false_value))
        if isinstance(e, Call):
            return self._call(e)
        if hasattr(e, "a") and hasattr(e, "b"):
            return _of_two(type(e), self(e.a), self(e.b))
        return ANYTHING

    def _call(self, e: Call) -> Interval:
        name = e.op.name.rpartition(".")[2]
        if name == "likely":
            return self(e.args[0])
        if name == "if_then_else":
            return _chosen(*(self(a) for a in e.args))
        if name in BY_CONSTANT or name in MASKS:
            return _of_two(name, self(e.args[0]), self(e.args[1]))
        return ANYTHING

    def _ramp(self, base: Interval, stride: int, count: int) -> Interval:
        if self.lanes is not None and self.lanes.size == count:
            low = base.low + stride * self.lanes
            return Interval(low, low if base.is_exact else base.high + stride * self.lanes)
        last = stride * (count - 1)
        return between(base.low + min(0, last), base.high + max(0, last))


def _of_two(operator: object, a: Interval, b: Interval) -> Interval:
    exact = a.is_exact and b.is_exact
    if operator in INCREASING:
        low = INCREASING[operator](a.low, b.low)
        return Interval(low, low if exact else INCREASING[operator](a.high, b.high))
    if operator is tirx.Sub:
        low = a.low - b.high
        return Interval(low, low if exact else a.high - b.low)
    if operator is tirx.Mul:
        return exactly(a.low * b.low) if exact else _product(a, b)
    if operator in ORDERS:
        return _compared(operator, a, b)
    if not b.is_exact or b.low.ndim or b.low < 0:
        return ANYTHING
    if operator in BY_CONSTANT and (b.low or "Shift" in str(operator) or isinstance(operator, str)):
        low = BY_CONSTANT[operator](a.low, b.low)
        return Interval(low, low if a.is_exact else BY_CONSTANT[operator](a.high, b.low))
    if operator in REMAINDERS and b.low:
        return _remainder(operator, a, b.low)
    if operator in MASKS:
        return exactly(a.low & b.low) if a.is_exact else between(0, b.low)
    return ANYTHING


def _product(a: Interval, b: Interval) -> Interval:
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    low = high = corners[0]
    for corner in corners[1:]:
        low, high = np.minimum(low, corner), np.maximum(high, corner)
    return between(low, high)


def _remainder(operator: object, a: Interval, divisor: Array) -> Interval:
    rest = np.mod if operator is tirx.FloorMod else np.fmod
    if a.is_exact:
        return exactly(rest(a.low, divisor))
    together = (a.low // divisor == a.high // divisor) & (a.low >= 0)
    least = np.where((a.low < 0) & (operator is tirx.Mod), 1 - divisor, 0)
    return between(
        np.where(together, a.low % divisor, least), np.where(together, a.high % divisor, divisor - 1)
    )


def _compared(operator: object, a: Interval, b: Interval) -> Interval:
    """From 1 where it holds for sure to 1 where it may hold."""
    if operator in (tirx.GT, tirx.GE):
        return _compared(tirx.LT if operator is tirx.GT else tirx.LE, b, a)
    if operator is tirx.LT:
        return between(a.high < b.low, a.low < b.high)
    if operator is tirx.LE:
        return between(a.high <= b.low, a.low <= b.high)
    equal = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    may = (a.low <= b.high) & (b.low <= a.high)
    return between(equal, may) if operator is tirx.EQ else between(~may, ~equal)


def _chosen(condition: Interval, yes: Interval, no: Interval) -> Interval:
    sure, never = condition.low > 0, condition.high == 0
    low = np.where(sure, yes.low, np.where(never, no.low, np.minimum(yes.low, no.low)))
    if condition.is_exact and yes.is_exact and no.is_exact:
        return exactly(low)
    return between(low, np.where(sure, yes.high, np.where(never, no.high, np.maximum(yes.high, no.high))))

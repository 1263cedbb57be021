"""What is known of the elements of small integer tensors: shapes, and the arithmetic that models do on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import Dim, DType
from graphopt.ir.value import Value

Elements = np.ndarray
"""An object array of ints and of symbols (str); None is an element that nothing is known of."""

LARGEST = 1024
"""Elements; larger tensors are data, not shapes."""


def elements_of(value: Value | None, known: Mapping[Value, Elements]) -> Elements | None:
    """What is known of a value: what has been evaluated, or what a constant holds; None when that is nothing."""
    if value is None:
        return None
    if value in known:
        return known[value]
    data = value.constant
    if data is None or data.dtype.kind not in "iub" or data.size > LARGEST:
        return None
    flat = np.empty(data.shape, object)
    flat.reshape(-1)[:] = data.reshape(-1).tolist()
    return flat


def is_numbers(elements: Elements) -> bool:
    return all(isinstance(e, int | bool) for e in elements.reshape(-1))


def evaluate(node: Node, known: Mapping[Value, Elements]) -> list[Elements | None]:
    """The elements of the node's outputs; empty for an operator that shapes are not computed with."""
    if node.domain or node.op_type not in _RULES:
        return []
    if node.is_op("Shape", "Size"):
        return [_RULES[node.op_type](node, [])]
    operands = [elements_of(v, known) for v in node.inputs]
    if operands and operands[0] is None:
        return []
    try:
        return [_RULES[node.op_type](node, operands)]
    except (TypeError, ValueError, IndexError):
        return []


def _array(items: list[Dim | None]) -> Elements:
    result = np.empty(len(items), object)
    result[:] = items
    return result


def _shape(node: Node, _: list) -> Elements | None:
    value = node.input(0)
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    start = node.int("start")
    end = node.attr("end")
    return _array(list(value.shape[slice(start, rank if end is None else int(end))]))  # type: ignore[call-overload]


def _size(node: Node, _: list) -> Elements | None:
    value = node.input(0)
    if value is None or not value.is_static:
        return None
    result = np.empty((), object)
    result[()] = value.size
    return result


def _numbers(elements: Elements | None) -> list[int]:
    """Raises TypeError when an element is not a number."""
    if elements is None or not is_numbers(elements):
        raise TypeError
    return [int(e) for e in elements.reshape(-1)]


def _gather(node: Node, operands: list) -> Elements:
    index = operands[1]
    picks = np.asarray(_numbers(index)).reshape(index.shape)
    return np.asarray(np.take(operands[0], picks, axis=node.int("axis")), object)


def _slice(node: Node, operands: list) -> Elements:
    starts, ends = _numbers(operands[1]), _numbers(operands[2])
    axes = _numbers(operands[3]) if len(operands) > 3 and operands[3] is not None else range(len(starts))
    steps = _numbers(operands[4]) if len(operands) > 4 and operands[4] is not None else [1] * len(starts)
    picks = [slice(None)] * operands[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dim = operands[0].shape[axis]
        low = None if step < 0 and end < -dim else end
        picks[axis] = slice(start, low, step)
    return operands[0][tuple(picks)]


def _concat(node: Node, operands: list) -> Elements | None:
    if any(o is None for o in operands):
        parts = [o if o is not None else _unknown(v) for o, v in zip(operands, node.inputs, strict=True)]
        return np.concatenate(parts, axis=node.int("axis"))
    return np.concatenate(operands, axis=node.int("axis"))


def _unknown(value: Value | None) -> Elements:
    """Elements of a known count that nothing is known of. Raises TypeError when even the count is not."""
    if value is None or not value.is_static or value.size > LARGEST:
        raise TypeError
    return np.full(value.static_shape, None, object)


def _unsqueeze(node: Node, operands: list) -> Elements:
    result = operands[0]
    axes = _numbers(operands[1])
    rank = result.ndim + len(axes)
    return np.expand_dims(result, tuple(a % rank for a in axes))


def _squeeze(node: Node, operands: list) -> Elements:
    axes = tuple(_numbers(operands[1])) if len(operands) > 1 and operands[1] is not None else None
    return np.asarray(np.squeeze(operands[0], axis=axes), object)


def _reshape(node: Node, operands: list) -> Elements:
    return operands[0].reshape(_numbers(operands[1]))


def _cast(node: Node, operands: list) -> Elements:
    if not DType.of(node.int("to")).is_integer:
        raise TypeError
    return operands[0]


def _identity(node: Node, operands: list) -> Elements:
    return operands[0]


def _arithmetic(symbol: str):  # noqa: ANN202 - a small family of rules
    def apply(a: Dim | None, b: Dim | None) -> Dim | None:
        if isinstance(a, int) and isinstance(b, int):
            if symbol == "+":
                return a + b
            if symbol == "-":
                return a - b
            if symbol == "*":
                return a * b
            return abs(a) // abs(b) * (1 if a * b >= 0 else -1) if b else None
        if symbol in "*/" and b == 1:
            return a
        if symbol == "*" and a == 1:
            return b
        if symbol in "+-" and b == 0:
            return a
        return None

    def rule(node: Node, operands: list) -> Elements:
        if operands[1] is None:
            raise TypeError
        return np.asarray(np.frompyfunc(apply, 2, 1)(operands[0], operands[1]), object)

    return rule


def _equal(node: Node, operands: list) -> Elements:
    def apply(a: Dim | None, b: Dim | None) -> bool | None:
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        symbol, number = (a, b) if isinstance(a, str) else (b, a)
        negative = isinstance(symbol, str) and isinstance(number, int) and number < 0
        return False if negative else None  # a dimension is never negative

    return np.asarray(np.frompyfunc(apply, 2, 1)(operands[0], operands[1]), object)


def _where(node: Node, operands: list) -> Elements:
    def apply(c: bool | None, a: Dim | None, b: Dim | None) -> Dim | None:
        return None if c is None else (a if c else b)

    return np.asarray(np.frompyfunc(apply, 3, 1)(*operands), object)


_RULES = {
    "Add": _arithmetic("+"),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _arithmetic("/"),
    "Equal": _equal,
    "Gather": _gather,
    "Identity": _identity,
    "Mul": _arithmetic("*"),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _arithmetic("-"),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}

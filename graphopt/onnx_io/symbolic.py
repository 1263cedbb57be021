"""Shapes that ONNX's inference leaves open: of operators whose target shape is known in part only.

Reshape(x: [N, 4, 4], [N, -1])  -->  [N, 16]
"""

from __future__ import annotations

import math

from graphopt.ir import Dim, Node, Shape, fresh_dim
from graphopt.ir.elements import Elements


def symbolic_shape(node: Node, target: Elements) -> Shape | None:
    """The shape of the node's output, given what is known of its target shape; None for other operators."""
    if target.ndim != 1:
        return None
    data = node.input(0)
    shape = None if data is None else data.shape
    if node.is_op("Reshape"):
        return reshaped(shape, target, allowzero=bool(node.int("allowzero")))
    if node.is_op("Expand"):
        return None if shape is None else broadcast(shape, _as_shape(target))
    return _as_shape(target) if node.is_op("ConstantOfShape") else None


TARGETS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}
"""Which input gives the shape."""


def reshaped(shape: Shape | None, target: Elements, *, allowzero: bool) -> Shape:
    """The shape after Reshape to `target`: 0 copies a dimension, -1 takes what is left."""
    dims: list[Dim] = []
    rest = -1
    for index, item in enumerate(target.tolist()):
        if item == 0 and not allowzero:
            dims.append(shape[index] if shape is not None and index < len(shape) else fresh_dim())
        elif item == -1:
            rest = index
            dims.append(1)
        else:
            dims.append(fresh_dim() if item is None else item)
    if rest >= 0:
        dims[rest] = fresh_dim() if shape is None else _quotient(shape, dims)
    return tuple(dims)


def broadcast(one: Shape, other: Shape) -> Shape:
    """The shape of an element-wise operator's result; a dimension of its own where neither side decides."""
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    return tuple(_broadcast_dim(a, b) for a, b in pairs)


def _as_shape(target: Elements) -> Shape:
    return tuple(fresh_dim() if item is None else item for item in target.tolist())


def _broadcast_dim(one: Dim, other: Dim) -> Dim:
    if one == other or other == 1:
        return one
    if one == 1:
        return other
    numbers = [d for d in (one, other) if isinstance(d, int)]
    return numbers[0] if numbers else fresh_dim()


def _quotient(shape: Shape, divisors: list[Dim]) -> Dim:
    """The product of `shape` over that of `divisors`, where symbols cancel."""
    symbols = [d for d in shape if isinstance(d, str)]
    for symbol in (d for d in divisors if isinstance(d, str)):
        if symbol not in symbols:
            return fresh_dim()
        symbols.remove(symbol)
    total, part = (math.prod(d for d in dims if isinstance(d, int)) for dims in (shape, divisors))
    if not symbols and part and total % part == 0:
        return total // part
    return symbols[0] if len(symbols) == 1 and total == part else fresh_dim()

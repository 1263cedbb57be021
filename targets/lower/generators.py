"""Operators whose output depends on shapes, attributes or positions more than on data.

Shape and Size are known at compile time; a pass folds them, and what reaches a kernel is written as it is.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import te, tirx

from graphopt.ir import DType, Node
from graphopt.targets.lower.movement import data_of
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    constant,
    fill,
    literal,
    normalise_axis,
    shape_of,
    storage,
)


def _shape(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    dims = shape_of(data_of(inputs))
    end = node.attr("end")
    part = dims[node.int("start") : len(dims) if end is None else node.int("end")]
    return literal(np.array(part, np.int64), DType.int64, "shape")


def _size(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    return fill((), math.prod(shape_of(data_of(inputs))), "int64", "size")


def _constant_of_shape(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    value = node.attr("value")
    element = 0.0 if value is None else np.asarray(value).reshape(()).item()
    return fill(node.output.static_shape, element, storage(node.output.dtype), "constant_of_shape")


def _eye_like(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Ones on diagonal `k`, above the main one when positive."""
    kind = storage(node.output.dtype)
    one, zero = tirx.const(1, kind), tirx.const(0, kind)
    k = node.int("k")
    return te.compute(
        node.output.static_shape,
        lambda row, column: tirx.Select(tirx.EQ(column - row, k), one, zero),
        name="eye_like",
    )


def _range(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    start, step = constant(node, 0), constant(node, 2)
    assert start is not None and step is not None
    kind = storage(node.output.dtype)
    first, by = tirx.const(start.item(), kind), tirx.const(step.item(), kind)
    return te.compute(node.output.static_shape, lambda i: first + i.astype(kind) * by, name="range")


def _one_hot(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """indices, depth, values (off, on) -> a new axis with `on` at the index; negative ones count from the end."""
    indices, _, values = inputs
    assert indices is not None and values is not None
    shape = node.output.static_shape
    axis = normalise_axis(node.int("axis", -1), len(shape))
    depth = shape[axis]

    def element(*i: Expr) -> Expr:
        index = indices(*i[:axis], *i[axis + 1 :]).astype("int64")
        position = i[axis].astype("int64")
        on = tirx.Or(tirx.EQ(index, position), tirx.EQ(index, position - depth))
        return tirx.Select(on, values(1), values(0))

    return te.compute(shape, element, name="one_hot")


LOWERINGS: dict[str, Lowering] = {
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "OneHot": _one_hot,
    "Range": _range,
    "Shape": _shape,
    "Size": _size,
}

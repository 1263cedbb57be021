"""What every lowering shares: storage types, shapes, structural operands, broadcast reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import DType, Node, Value
from graphopt.targets.lower.support import STORAGE, where

Expr: TypeAlias = tirx.Expr
Lowering = Callable[[Node, list[te.Tensor | None]], te.Tensor | list[te.Tensor]]
"""From a node and its inputs' tensors (None: left out) to its outputs' tensors, outputs left out included."""

WIDE = {"float16": "float32", "bfloat16": "float32"}
"""Storage types whose arithmetic is done in a wider type."""


def storage(dtype: DType) -> str:
    """The element type of a kernel's buffer. Raises UnsupportedError for strings and complex numbers."""
    if dtype not in STORAGE:
        raise UnsupportedError(f"kernels cannot store elements of {dtype}")
    return STORAGE[dtype]


def shape_of(tensor: te.Tensor) -> tuple[int, ...]:
    return tuple(int(dim) for dim in tensor.shape)


def placeholder(value: Value, name: str, shape: Sequence[int] | None = None) -> te.Tensor:
    """A parameter with the elements of `value`, under its own shape or another."""
    return te.placeholder(shape or value.static_shape, storage(value.dtype), name=name)


def constant(node: Node, index: int) -> np.ndarray | None:
    """The data of a structural operand; None when it is left out.

    Raises UnsupportedError when it is not known at compile time.
    """
    value = node.input(index)
    if value is None:
        return None
    if value.constant is None:
        raise UnsupportedError(
            f"input {index} ('{value.name}') must be known at compile time",
            where=where(node),
            hint="it decides the shapes or the loops of the kernel",
        )
    return value.constant


def integers(node: Node, index: int) -> list[int] | None:
    """A structural operand as a flat list of ints; None when it is left out."""
    data = constant(node, index)
    return None if data is None else [int(v) for v in data.reshape(-1)]


def required(inputs: Sequence[te.Tensor | None], index: int) -> te.Tensor:
    """An operand that every node of the operator has."""
    tensor = inputs[index]
    assert tensor is not None
    return tensor


def normalise_axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def broadcast_read(tensor: te.Tensor, indices: Sequence[Expr]) -> Expr:
    """The element that belongs to `indices` of a result `tensor` broadcasts to, as numpy aligns them."""
    shape = shape_of(tensor)
    tail = indices[len(indices) - len(shape) :] if shape else ()
    return tensor(*(0 if dim == 1 else index for dim, index in zip(shape, tail, strict=True)))


def broadcast_shape(*tensors: te.Tensor) -> tuple[int, ...]:
    return np.broadcast_shapes(*(shape_of(t) for t in tensors))


def flat_index(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The row-major position of `indices` in a tensor of `shape`."""
    position: Expr = tirx.const(0, "int32")
    for index, dim in zip(indices, shape, strict=True):
        position = position * dim + index
    return position


def unflatten(position: Expr, shape: Sequence[int]) -> list[Expr]:
    """The indices of row-major `position` in a tensor of `shape`."""
    indices: list[Expr] = []
    for axis in range(len(shape) - 1, 0, -1):
        indices.append(tirx.indexmod(position, shape[axis]))
        position = tirx.indexdiv(position, shape[axis])
    return [position, *reversed(indices)] if shape else []


def reshape(tensor: te.Tensor, shape: Sequence[int], name: str = "reshape") -> te.Tensor:
    """The same elements in row-major order under another shape."""
    source = shape_of(tensor)
    if tuple(shape) == source:
        return tensor
    if math.prod(shape) == 0:
        return te.compute(tuple(shape), lambda *_: tirx.const(0, dtype_of(tensor)), name=name)
    return te.compute(tuple(shape), lambda *i: tensor(*_regroup(i, tuple(shape), source)), name=name)


def _regroup(indices: Sequence[Expr], shape: Sequence[int], source: Sequence[int]) -> list[Expr]:
    """Indices into `source` of the element at `indices` of `shape`; whole axes keep their variable."""
    result: list[Expr] = []
    i = j = 0
    while i < len(shape) or j < len(source):
        start_i, start_j = i, j
        left = shape[i] if i < len(shape) else 1
        right = source[j] if j < len(source) else 1
        i, j = min(i + 1, len(shape)), min(j + 1, len(source))
        while left != right:
            if left < right:
                left *= shape[i]
                i += 1
            else:
                right *= source[j]
                j += 1
        if j - start_j == 0:
            continue
        position = flat_index(indices[start_i:i], shape[start_i:i])
        result.extend(unflatten(position, source[start_j:j]))
    return result


def copied(tensor: te.Tensor) -> te.Tensor:
    """The same elements as a stage of their own."""
    return te.compute(tensor.shape, lambda *i: tensor(*i), name="copy")


def fill(shape: Sequence[int], value: float | int | bool, dtype: str, name: str = "fill") -> te.Tensor:
    return te.compute(tuple(shape), lambda *_: tirx.const(value, dtype), name=name)


def literal(array: np.ndarray, dtype: DType, name: str = "literal") -> te.Tensor:
    """A small constant as a stage of its own: a chain of selects, so meant for a handful of elements."""
    kind = storage(dtype)
    if kind.startswith(("uint", "int")) and not dtype.is_integer:
        array = array.view(np.uint8)
    flat = [v.item() if kind != "bfloat16" else float(v) for v in array.reshape(-1)]

    def element(*indices: Expr) -> Expr:
        result = tirx.const(flat[0], kind)
        position = flat_index(indices, array.shape)
        for number, item in enumerate(flat[1:], 1):
            result = tirx.Select(position >= number, tirx.const(item, kind), result)
        return result

    return te.compute(array.shape, element, name=name)


def dtype_of(operand: Expr | te.Tensor) -> str:
    return str(operand.dtype if isinstance(operand, te.Tensor) else operand.ty)


def widen(expression: Expr) -> Expr:
    """A 16-bit float as float32, anything else as it is."""
    wide = WIDE.get(dtype_of(expression))
    return expression if wide is None else expression.astype(wide)


def narrowed(tensor: te.Tensor, dtype: DType) -> te.Tensor:
    """A sum that was kept wide in the 16-bit type of its operator's output; any other tensor as it is."""
    kind = storage(dtype)
    if WIDE.get(kind) != dtype_of(tensor):
        return tensor
    return te.compute(tensor.shape, lambda *i: tensor(*i).astype(kind), name="narrowed")


def wide_dtype(dtype: str) -> str:
    return WIDE.get(dtype, dtype)

"""Indexing: Gather, GatherElements, GatherND, TensorScatter.

Negative indices count from the end. An index out of bounds, which ONNX calls an error, stands for the nearest
element: a kernel never leaves its tensors.
"""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.tensors import Expr, Lowering, normalise_axis, shape_of


def wrap(index: Expr, dim: int) -> Expr:
    """An index from data as a position on an axis of `dim` elements."""
    position = index.astype("int64")
    position = tirx.Select(position < 0, position + dim, position)
    zero, last = tirx.const(0, "int64"), tirx.const(dim - 1, "int64")
    return tirx.max(zero, tirx.min(last, position)).astype("int32")


def _operands(inputs: list[te.Tensor | None]) -> tuple[te.Tensor, te.Tensor]:
    data, indices = inputs
    assert data is not None and indices is not None
    return data, indices


def _gather(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Whole slices along one axis: out[..., i, ...] = data[..., indices[i], ...]."""
    data, indices = _operands(inputs)
    shape = shape_of(data)
    axis = normalise_axis(node.int("axis"), len(shape))
    rank = len(shape_of(indices))

    def element(*i: Expr) -> Expr:
        index = wrap(indices(*i[axis : axis + rank]), shape[axis])
        return data(*i[:axis], index, *i[axis + rank :])

    return te.compute(node.output.static_shape, element, name="gather")


def _gather_elements(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """One element each: out[i, j, k] = data[i, indices[i, j, k], k] for axis 1."""
    data, indices = _operands(inputs)
    shape = shape_of(data)
    axis = normalise_axis(node.int("axis"), len(shape))

    def element(*i: Expr) -> Expr:
        return data(*i[:axis], wrap(indices(*i), shape[axis]), *i[axis + 1 :])

    return te.compute(node.output.static_shape, element, name="gather_elements")


def _gather_nd(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Slices at index tuples: out[b, i, ...] = data[b, *indices[b, i], ...] behind `batch_dims` axes b."""
    data, indices = _operands(inputs)
    shape = shape_of(data)
    batch = node.int("batch_dims")
    *places, depth = shape_of(indices)

    def element(*i: Expr) -> Expr:
        at = i[: len(places)]
        found = [wrap(indices(*at, number), shape[batch + number]) for number in range(depth)]
        return data(*i[:batch], *found, *i[len(places) :])

    return te.compute(node.output.static_shape, element, name="gather_nd")


def _tensor_scatter(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """`update` written over the cache from position `write_indices[b]` of `axis` on; `circular` wraps around."""
    cache, update = _operands(inputs[:2])
    starts = inputs[2] if len(inputs) > 2 else None
    axis = normalise_axis(node.int("axis", -2), len(shape_of(cache)))
    room, count = shape_of(cache)[axis], shape_of(update)[axis]
    circular = node.str("mode", "linear") == "circular"

    def element(*i: Expr) -> Expr:
        start = tirx.const(0, "int32") if starts is None else starts(i[0]).astype("int32")
        step = i[axis] - start
        if circular:
            step = tirx.floormod(step, room)
        inside = tirx.And(step >= 0, step < count)
        return tirx.if_then_else(inside, update(*i[:axis], step, *i[axis + 1 :]), cache(*i))

    return te.compute(shape_of(cache), element, name="tensor_scatter")


LOWERINGS: dict[str, Lowering] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "TensorScatter": _tensor_scatter,
}

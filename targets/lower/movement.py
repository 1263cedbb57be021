"""Data movement: each element of the output is one element of the input, found by its indices.

Concat and Split of large tensors are copies of whole blocks (`copies.py`) where they stand alone; inside a
group Concat is a chain of selects over its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    broadcast_read,
    constant,
    integers,
    normalise_axis,
    reshape,
    shape_of,
)


def present(inputs: Sequence[te.Tensor | None]) -> list[te.Tensor]:
    return [tensor for tensor in inputs if tensor is not None]


def data_of(inputs: Sequence[te.Tensor | None]) -> te.Tensor:
    """The first operand, which every operator here has."""
    assert inputs[0] is not None
    return inputs[0]


def _reshape(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Reshape, Flatten, Squeeze, Unsqueeze: the graph has worked out the shape."""
    return reshape(data_of(inputs), node.output.static_shape)


def _transpose(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    rank = len(shape_of(x))
    order = node.ints("perm", range(rank - 1, -1, -1))
    assert order is not None
    places = [order.index(axis) for axis in range(rank)]
    return te.compute(
        node.output.static_shape, lambda *i: x(*(i[place] for place in places)), name="transpose"
    )


def _expand(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    return te.compute(node.output.static_shape, lambda *i: broadcast_read(x, i), name="expand")


def _tile(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    shape = shape_of(x)

    def element(*indices: Expr) -> Expr:
        return x(*(_repeated(i, dim, out) for i, dim, out in zip(indices, shape, made, strict=True)))

    made = node.output.static_shape
    return te.compute(made, element, name="tile")


def _repeated(index: Expr, dim: int, out: int) -> Expr:
    if dim == 1:
        return tirx.const(0, "int32")
    return index if dim == out else tirx.indexmod(index, dim)


def slice_ranges(node: Node, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Start and step of a Slice for every axis of an input of `shape`."""
    starts, ends = integers(node, 1), integers(node, 2)
    assert starts is not None and ends is not None
    axes, steps = integers(node, 3), integers(node, 4)
    first, stride = [0] * len(shape), [1] * len(shape)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = normalise_axis(axes[number] if axes else number, len(shape))
        step = steps[number] if steps else 1
        first[axis], _, stride[axis] = slice(start, end, step).indices(shape[axis])
    return first, stride


def _slice(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    starts, steps = slice_ranges(node, shape_of(x))
    return te.compute(
        node.output.static_shape,
        lambda *i: x(*(start + j * step for start, j, step in zip(starts, i, steps, strict=True))),
        name="slice",
    )


def _split(node: Node, inputs: list[te.Tensor | None]) -> list[te.Tensor]:
    x = data_of(inputs)
    axis = normalise_axis(node.int("axis"), len(shape_of(x)))
    parts, start = [], 0
    for value in node.outputs:
        parts.append(_part(x, axis, start, value.static_shape))
        start += value.static_shape[axis]
    return parts


def _part(x: te.Tensor, axis: int, start: int, shape: Sequence[int]) -> te.Tensor:
    return te.compute(tuple(shape), lambda *i: x(*i[:axis], i[axis] + start, *i[axis + 1 :]), name="split")


def _concat(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """A binary decision between the inputs: log2(n) comparisons, the same ones for a whole row where the
    axis is not the last."""
    axis = normalise_axis(node.int("axis"), len(node.output.static_shape))
    parts, start = [], 0
    for part in present(inputs):
        if shape_of(part)[axis]:
            parts.append((start, part))
        start += shape_of(part)[axis]

    def element(*indices: Expr) -> Expr:
        def read(candidates: Sequence[tuple[int, te.Tensor]]) -> Expr:
            if len(candidates) == 1:
                first, part = candidates[0]
                return part(*indices[:axis], indices[axis] - first, *indices[axis + 1 :])
            half = len(candidates) // 2
            before = indices[axis] < candidates[half][0]
            return tirx.if_then_else(before, read(candidates[:half]), read(candidates[half:]))

        return read(parts)

    return te.compute(node.output.static_shape, element, name="concat")


def _depth_to_space(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(N, C, H, W) -> (N, C / b^2, b H, b W); the depth holds (b, b, C / b^2), or in mode CRD (C / b^2, b, b)."""
    x, block = data_of(inputs), node.int("blocksize")
    shape = node.output.static_shape
    channels = shape[1]

    def element(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        row, column = tirx.indexmod(h, block), tirx.indexmod(w, block)
        if node.str("mode", "DCR") == "DCR":
            depth = (row * block + column) * channels + c
        else:
            depth = (c * block + row) * block + column
        return x(n, depth, tirx.indexdiv(h, block), tirx.indexdiv(w, block))

    return te.compute(shape, element, name="depth_to_space")


def _space_to_depth(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(N, C, H, W) -> (N, b^2 C, H / b, W / b); the depth holds (b, b, C), or in mode CRD (C, b, b)."""
    x, block = data_of(inputs), node.int("blocksize")
    channels, area = shape_of(x)[1], block * block

    def element(n: Expr, depth: Expr, h: Expr, w: Expr) -> Expr:
        if node.str("mode", "DCR") == "DCR":
            place, c = tirx.indexdiv(depth, channels), tirx.indexmod(depth, channels)
        else:
            place, c = tirx.indexmod(depth, area), tirx.indexdiv(depth, area)
        row, column = tirx.indexdiv(place, block), tirx.indexmod(place, block)
        return x(n, c, h * block + row, w * block + column)

    return te.compute(node.output.static_shape, element, name="space_to_depth")


def _reverse_sequence(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The first `lengths[b]` steps of each sequence in reverse, the rest as it is; lengths are cut to fit."""
    x, lengths = inputs
    assert x is not None and lengths is not None
    batch, time = node.int("batch_axis", 1), node.int("time_axis", 0)
    steps = shape_of(x)[time]

    def element(*indices: Expr) -> Expr:
        length = tirx.min(lengths(indices[batch]).astype("int32"), steps)
        step = indices[time]
        place = tirx.Select(step < length, length - 1 - step, step)
        return x(*indices[:time], place, *indices[time + 1 :])

    return te.compute(shape_of(x), element, name="reverse_sequence")


def _trilu(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The triangle on and above (below) diagonal `k` of the last two axes, zero elsewhere."""
    x = data_of(inputs)
    rows, columns = shape_of(x)[-2:]
    offset = constant(node, 1)
    k = 0 if offset is None else min(max(int(offset.item()), -rows), columns)
    upper = node.int("upper", 1)

    def element(*indices: Expr) -> Expr:
        *_, row, column = indices
        kept = column - row >= k if upper else column - row <= k
        return tirx.Select(kept, x(*indices), tirx.const(0, x.dtype))

    return te.compute(shape_of(x), element, name="trilu")


LOWERINGS: dict[str, Lowering] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _reshape,
}

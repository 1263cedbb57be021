"""Operators that move or resample pixels, on images in blocks: what stays of a channel's block stays together.

    Reshape(x) of the pixels alone          -->   Reshape(blocks of x)             it costs nothing
    Transpose(x) to channels-last           -->   Reshape(Transpose(blocks of x))  whole blocks change places; plain
    Gemm(Reshape(x), W)                     -->   Gemm(Reshape(blocks of x), W')   rows of W in the order of the blocks
    Resize(x) of the pixels alone           -->   Resize(blocks of x, axes)        one lane for each channel
    Split(x), Slice(x) of channels          -->   Slice(blocks of x), ...          whole blocks; channels-last: any

Each function takes the node, what stands for its operand in blocks and a builder, and returns the result in blocks
(of the Transpose: plain; of a Split: all results), or the reason why there is none.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir import Node, Value
from graphopt.ir.layout import blocked_of, blocked_type, to_blocks
from graphopt.passes.algebra import slice_starts
from graphopt.rewrite import Builder

MOST_ROWS = 1.25
"""Rows of weights, those of missing channels included, for each that is there."""


def reshaped(node: Node, twin: Value, build: Builder) -> Value | str:
    """The pixels in other rows."""
    before, after = node.inputs[0].static_shape, node.output.static_shape  # type: ignore[union-attr]
    if before[:2] != after[:2]:
        return "it takes channels apart"
    assert node.output.type is not None
    type = blocked_type(node.output.type, twin.static_shape[-1])
    return build.op("Reshape", twin, build.shape(type.static_shape))


def turned(node: Node, twin: Value, build: Builder) -> Value | str:
    """Plain, channels last: a copy of whole blocks."""
    layout, order = blocked_of(twin.type), node.ints("perm")
    assert layout is not None
    pixels = tuple(range(2, 2 + layout.spatial))
    if order != (0, *pixels, 1):
        return "it does not bring the channels to the end"
    if layout.block == layout.channels:
        return build.op("Reshape", twin, build.shape(node.output.static_shape))
    if layout.channels % layout.block:
        return "the channels do not fill their blocks"
    moved = build.op("Transpose", twin, perm=(0, *pixels, 1, 2 + layout.spatial))
    return build.op("Reshape", moved, build.shape(node.output.static_shape))


def flattened(node: Node, twin: Value, build: Builder) -> Value | str:
    """A product with all of an image: the rows of the weights change places, those of missing channels are zero."""
    rows, weights, layout = node.inputs[0], node.inputs[1], blocked_of(twin.type)
    assert rows is not None and rows.producer is not None and weights is not None and layout is not None
    batch, _, *pixels, block = twin.static_shape
    size = layout.channels * math.prod(pixels)
    if not rows.producer.is_op("Reshape") or rows.shape != (batch, size) or node.int("transA"):
        return "its rows are no flattened images"
    if weights.constant is None or weights.constant.ndim != 2:
        return "its weights are not constant"
    if math.prod(pixels) == 1 and layout.channels % block == 0:
        return "the blocks lie in the order of the channels"
    if layout.blocks * block > MOST_ROWS * layout.channels:
        return "missing channels would make the weights too large"
    axis = node.int("transB")
    places = to_blocks(1 + np.arange(size).reshape(1, layout.channels, *pixels), block).reshape(-1)
    padded = np.pad(weights.constant, [(1, 0), (0, 0)] if axis == 0 else [(0, 0), (1, 0)])
    moved = build.const(np.ascontiguousarray(padded.take(places, axis)), name=weights.name)
    flat = build.op("Reshape", twin, build.shape([batch, len(places)]))
    assert node.output.type is not None
    operands = (flat, moved, *node.inputs[2:])
    (made,) = build.ops(
        node.op_type,
        *operands,
        outputs=1,
        domain=node.domain,
        types=(node.output.type,),
        **node.attributes,
    )
    return made


def resized(node: Node, twin: Value, build: Builder) -> Value | str:
    """The same resampling of every channel."""
    x = node.inputs[0]
    assert x is not None
    if x.static_shape[:2] != node.output.static_shape[:2]:
        return "it resizes more than the pixels"
    if any(v is not None and v.constant is None for v in node.inputs[1:]):
        return "how it resizes is computed"
    rank = len(x.static_shape)
    axes = [axis % rank for axis in node.ints("axes") or range(rank)]
    kept = [number for number, axis in enumerate(axes) if axis >= 2]
    given = [None if v is None or not v.size else v.constant for v in (*node.inputs, None, None)[1:4]]
    region, scales, sizes = given
    operands = [
        None if region is None else build.const(region.reshape(2, -1)[:, kept].reshape(-1), name="region"),
        None if scales is None else build.const(scales[kept], name="scales"),
        None if sizes is None else build.const(sizes[kept].astype(np.int64), name="sizes"),
    ]
    attributes = {**node.attributes, "axes": tuple(axes[number] for number in kept)}
    return build.op("Resize", twin, *operands, **attributes)


def parts(node: Node, twin: Value, build: Builder) -> list[Value] | str:
    """Some of the channels for each result."""
    starts, block = _starts(node), twin.static_shape[-1]
    if isinstance(starts, str):
        return starts
    sizes = [value.static_shape[1] for value in node.outputs]
    if any(first % block or size % block for first, size in zip(starts, sizes, strict=True)):
        return "a part's channels are not whole blocks"
    return [
        _cut(twin, 1, first // block, (first + size) // block, build)
        for first, size in zip(starts, sizes, strict=True)
    ]


def parts_of_channels(node: Node, twin: Value, build: Builder) -> list[Value] | str:
    """The same of a single block, in which any channels may be cut."""
    starts = _starts(node)
    if isinstance(starts, str):
        return starts
    sizes = [value.static_shape[1] for value in node.outputs]
    axis = len(twin.static_shape) - 1
    return [_cut(twin, axis, first, first + size, build) for first, size in zip(starts, sizes, strict=True)]


def _cut(twin: Value, axis: int, first: int, end: int, build: Builder) -> Value:
    return build.op("Slice", twin, *(build.shape([n]) for n in (first, end, axis)))


def _starts(node: Node) -> list[int] | str:
    """The first channel of each part; or why the parts are not channels of all pixels."""
    x = node.inputs[0]
    assert x is not None
    if not all(v.is_static and v.rank == x.rank for v in node.outputs):
        return "its results have no fixed shape"
    starts = _starts_of_split(node) if node.is_op("Split") else (slice_starts(node) or [])[1:2]
    if not starts:
        return "where it begins is not known, or it leaves some out"
    for value in node.outputs:
        batch, channels, *pixels = value.static_shape
        if (batch, *pixels) != (x.static_shape[0], *x.static_shape[2:]) or not channels:
            return "it takes more apart than channels"
    return starts


def _starts_of_split(node: Node) -> list[int]:
    """The first channel of each part; empty where other axes are split."""
    if node.int("axis") % (node.output.rank or 1) != 1:
        return []
    sizes = [value.static_shape[1] for value in node.outputs]
    return [sum(sizes[:number]) for number in range(len(sizes))]

"""Operators that move or resample pixels, on images in blocks: what stays of a channel's block stays together.

    Reshape(x) of the pixels alone          -->   Reshape(blocks of x)             it costs nothing
    Transpose(x) to channels-last           -->   Reshape(Transpose(blocks of x))  whole blocks change places; plain
    Resize(x) of the pixels alone           -->   Resize(blocks of x, axes)        one lane for each channel

Each function takes the node, what stands for its operand in blocks and a builder, and returns the result in blocks
(of the Transpose: plain), or the reason why there is none.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import Node, Value
from graphopt.ir.layout import blocked_of, blocked_type
from graphopt.rewrite import Builder


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
    if layout.channels % layout.block:
        return "the channels do not fill their blocks"
    moved = build.op("Transpose", twin, perm=(0, *pixels, 1, 2 + layout.spatial))
    return build.op("Reshape", moved, build.shape(node.output.static_shape))


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

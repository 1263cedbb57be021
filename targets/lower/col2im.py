"""Col2Im: blocks back into an image, adding where they overlap. The opposite of what a convolution reads.

An element of the image sums, for each tap of the block, the block that has the element under that tap: its
position, times the stride, plus the tap, times the dilation, minus the pad, is the element's.
"""

from __future__ import annotations

import math

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.movement import data_of
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, flat_index, integers, wide_dtype


def _col2im(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(N, C x block size, blocks), image shape, block shape -> (N, C, *image)."""
    x = data_of(inputs)
    image, block = integers(node, 1), integers(node, 2)
    assert image is not None and block is not None
    rank = len(image)
    strides, dilations = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    pads = node.ints("pads", (0,) * 2 * rank)
    assert strides is not None and dilations is not None and pads is not None
    blocks = [
        (image[a] + pads[a] + pads[a + rank] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
        for a in range(rank)
    ]
    taps = [te.reduce_axis((0, size), name=f"r{axis}") for axis, size in enumerate(block)]
    wide = wide_dtype(dtype_of(x))

    def element(n: Expr, c: Expr, *at: Expr) -> Expr:
        tests, places = [], []
        for a in range(rank):
            offset = at[a] + pads[a] - taps[a] * dilations[a]
            place = tirx.floordiv(offset, strides[a])
            tests += [place >= 0, place < blocks[a], tirx.EQ(place * strides[a], offset)]
            places.append(place)
        row = c * math.prod(block) + flat_index(taps, block)
        read = x(n, row, flat_index(places, blocks)).astype(wide)
        return te.sum(tirx.if_then_else(tirx.all(*tests), read, tirx.const(0, wide)), axis=taps)

    shape = node.output.static_shape
    total = te.compute(shape, element, name="col2im")
    if wide == x.dtype:
        return total
    return te.compute(shape, lambda *i: total(*i).astype(x.dtype), name="finish")


LOWERINGS: dict[str, Lowering] = {"Col2Im": _col2im}

"""What a layer computes: sums over windows of an image that is kept channels-last, for so many filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import DType, Graph, Node, Value
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor, product_of_bytes
from graphopt.targets.schedules.templates.epilogue import reads_by_pixel
from graphopt.targets.schedules.templates.window import Window, window_of_image

Place = Callable[[Expr, Expr, Expr, Expr], list[Expr]]
"""Image, row, column and channel -> the indices of an element of the result."""


@dataclass(frozen=True)
class Layer:
    """`batch` images of `groups` times `channels`, of which each group makes `filters`. `zero` is what a pad holds."""

    body: Graph
    anchor: Node
    window: Window
    batch: int
    groups: int
    channels: int
    filters: int
    zero: int
    place: Place
    is_whole: bool = True
    """The pixels of the result may be counted as one row, by whatever is in the body."""

    @property
    def dtype(self) -> str:
        """Of the image."""
        x = self.operand(0)
        assert x is not None
        return x.dtype.label

    @property
    def width(self) -> int:
        """Channels of the image."""
        return self.groups * self.channels

    @property
    def is_padded(self) -> bool:
        """Some window is partly outside."""
        return not all(line.is_inside(0, line.outputs) for line in (self.window.rows, self.window.row))

    @property
    def is_contiguous(self) -> bool:
        """What a window reads of a row lies in one piece."""
        return self.groups == 1 and (self.window.row.taps == 1 or self.window.row.dilation == 1)

    def operand(self, index: int) -> Value | None:
        return self.anchor.input(index)

    @property
    def bias(self) -> Value | None:
        """The operand that says what sums begin with; None where that is zero, or a number in the body."""
        bias = self.operand(2)
        return None if bias is None or bias.constant is not None else bias

    @property
    def starts_beside_weights(self) -> bool:
        """Sums begin with numbers that have no operand of their own."""
        return self.bias is None and (self.zero != 0 or self.operand(2) is not None)

    def number(self, index: int) -> int:
        """Which of the body's inputs an operand is."""
        value = self.operand(index)
        assert value is not None
        return self.body.inputs.index(value)


def convolution_of(body: Graph, constants: Mapping[int, np.ndarray]) -> Layer | None:
    """The convolution with int8 that a body computes, channels-last; None for anything else."""
    anchor = Anchor.of_bytes(body)
    if anchor is None or anchor.read is None or anchor.read.blocks > 1 or anchor.made.blocks > 1:
        return None
    node, groups = anchor.node, anchor.groups
    whole = anchor.read.block == anchor.read.channels and anchor.made.block == anchor.made.channels
    if not whole or not _are_constant(body, node, constants):
        return None
    if not _is_multiplied(anchor.x.dtype, node.int("x_zero_point")):
        return None
    window = window_of_image(node, anchor.image, anchor.kernel)
    is_whole = not reads_by_pixel(body, node, range(2, 2 + len(anchor.kernel)))
    if window.is_pointwise and is_whole:
        window = window.flat()
    sizes = anchor.x.static_shape[0], groups, anchor.channels // groups, anchor.made.channels // groups

    def place(image: Expr, row: Expr, column: Expr, channel: Expr) -> list[Expr]:
        return [image, 0, *window.pixel(row, column), channel]

    return Layer(body, node, window, *sizes, node.int("x_zero_point"), place, is_whole)


def product_of(body: Graph, constants: Mapping[int, np.ndarray]) -> Layer | None:
    """The product of rows with constant int8 as a layer whose pixels are the rows; None for anything else."""
    node = product_of_bytes(body, (DType.int8, DType.int16, DType.int32))
    if node is None or not _are_constant(body, node, constants):
        return None
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    if b.rank != 2 or (a.rank or 0) < 2 or a.producer is not None or node.int("b_zero_point"):
        return None
    if not _is_multiplied(a.dtype, node.int("a_zero_point")):
        return None
    depth, width = b.static_shape
    rows = math.prod(a.static_shape[:-1])
    if not (rows and depth and width) or reads_by_pixel(body, node, range((a.rank or 0) - 1)):
        return None
    window = Window(1, (1, rows), (1, rows))
    leading = a.static_shape[:-1]
    counted = max((axis for axis, size in enumerate(leading) if size > 1), default=0)

    def place(image: Expr, row: Expr, column: Expr, channel: Expr) -> list[Expr]:
        """Rows are counted along the last axis that has several: along one of a single row an index is none."""
        return [*(column if axis == counted else 0 for axis in range(len(leading))), channel]

    return Layer(body, node, window, 1, 1, depth, width, node.int("a_zero_point"), place)


def _is_multiplied(dtype: DType, zero: int) -> bool:
    """Sums of such numbers fit int32 on the way too: where nothing is taken off them, or there are few bits."""
    return dtype is DType.int8 or (dtype is DType.int16 and zero == 0)


def _are_constant(body: Graph, node: Node, constants: Mapping[int, np.ndarray]) -> bool:
    """Weights of int8, and a bias if there is one."""
    known = {body.inputs[number] for number in constants}
    weights, bias = node.input(1), node.input(2)
    is_known = bias is None or bias.constant is not None or bias in known
    return is_known and weights in known and weights.dtype is DType.int8  # type: ignore[union-attr]

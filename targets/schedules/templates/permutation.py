"""Elements in another order: Transpose, Pack and Unpack, a square block of registers at a time.

The input is contiguous along one axis, the output along another. A block of as many rows as there are lanes is loaded
along the first, transposed in registers and stored along the second, so that both sides see whole cache lines. Where
the axes are no whole number of blocks long, the last block lies over the one before it and writes the same again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import KERNEL, DType, Graph, Node
from graphopt.ir.layout import blocked_of
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, either, spread, taken_apart
from graphopt.targets.schedules.templates.shuffles import store_vector, transposed, vector_at
from graphopt.targets.schedules.templates.undecided import Undecided

BYTE_LANES = 16
"""Bytes in a row of a block: the smallest registers', which every processor transposes fast."""


MOVED = (DType.float32, DType.int32, DType.uint32, DType.int8, DType.uint8)


@dataclass(frozen=True)
class Axis:
    """`extent` elements, `read` apart in the input and `written` apart in the output."""

    extent: int
    read: int
    written: int


@dataclass(frozen=True)
class Permutation(Undecided):
    """`outer` axes around a plane of two: `source` is contiguous in the input, `goal` in the output.

    Of the last of the `blocks` of channels, which the innermost outer axis counts, only `rest` channels exist.
    """

    body: Graph
    node: Node
    outer: tuple[Axis, ...]
    source: Axis
    goal: Axis
    lanes: int
    rest: int = 0
    name: str = "permutation"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> Permutation | None:
        node = next(iter(body.nodes))
        x = node.input(0)
        if len(body) != 1 or x is None or not x.is_static or x.dtype is not node.output.dtype:
            return None
        lanes = {4: target.vector_bits // 32, 1: BYTE_LANES}.get(x.dtype.numpy.itemsize, 0)
        if lanes < 2 or target.vector_bits < 128 or x.dtype not in MOVED:
            return None
        rest = 0
        if node.is_op("Transpose"):
            axes = _of_transpose(node)
        elif node.is_op("Pack", "Unpack", domain=KERNEL):
            axes, rest = _of_blocks(node, packs=node.op_type == "Pack")
        else:
            return None
        axes = axes if rest else _merged(axes)
        source = next((axis for axis in axes if axis.read == 1), None)
        goal = next((axis for axis in axes if axis.written == 1), None)
        if source is None or goal is None or source is goal or min(source.extent, goal.extent) < lanes:
            return None
        if rest and (goal if node.op_type == "Pack" else source).extent != lanes:
            return None  # the last block is no vector, but several
        outer = tuple(axis for axis in axes if axis is not source and axis is not goal)
        return cls(body, node, outer, source, goal, lanes, rest)

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, self._emit)

    def _emit(self, buffers: Buffers) -> None:
        x = self.node.input(0)
        assert x is not None
        down, across = (-(-axis.extent // self.lanes) for axis in (self.source, self.goal))
        extents = [axis.extent for axis in self.outer]
        with spread(math.prod(extents) * down * across, x.size) as task:
            *places, row, column = taken_apart(task, *extents, down, across)
            first = tirx.min(row * self.lanes, self.source.extent - self.lanes)
            second = tirx.min(column * self.lanes, self.goal.extent - self.lanes)
            read, written = second * self.goal.read + first, first * self.source.written + second
            for place, axis in zip(places, self.outer, strict=True):
                read, written = read + place * axis.read, written + place * axis.written

            def block(channels: int) -> None:
                self._block(buffers[x], buffers[self.node.output], read, written, channels)

            either(
                places[-1] < extents[-1] - 1 if self.rest else None,
                lambda: block(self.lanes),
                lambda: block(self.rest),
            )

    def _block(self, x: tirx.Var, y: tirx.Var, read: Expr, written: Expr, channels: int) -> None:
        """Of Pack, rows beyond the `channels` are zero; of Unpack, columns beyond them are not stored."""
        packs = self.node.op_type == "Pack"
        loaded = channels if packs else self.lanes
        rows = [vector_at(x, read + k * self.goal.read, self.lanes) for k in range(loaded)]
        zeros = tirx.Broadcast(tirx.const(0, self.node.output.dtype.label), self.lanes)
        rows += [zeros] * (self.lanes - loaded)
        columns = transposed(rows)
        for k, column in enumerate(columns if packs else columns[:channels]):
            store_vector(y, written + k * self.source.written, column, self.lanes)


def _of_transpose(node: Node) -> list[Axis]:
    """The axes in the output's order."""
    x = node.inputs[0]
    assert x is not None
    order = node.ints("perm") or tuple(reversed(range(len(x.static_shape))))
    read, written = _strides(x.static_shape), _strides(node.output.static_shape)
    return [Axis(x.static_shape[axis], read[axis], written[place]) for place, axis in enumerate(order)]


def _of_blocks(node: Node, *, packs: bool) -> tuple[list[Axis], int]:
    """Images, pixels, blocks and lanes, and how many channels the last block has if that is not all."""
    plain, blocked = (node.inputs[0], node.output) if packs else (node.output, node.inputs[0])
    assert plain is not None and blocked is not None
    layout = blocked_of(blocked.type)
    assert layout is not None
    batch, channels, *spatial = plain.static_shape
    pixels, lanes, blocks = math.prod(spatial), layout.block, layout.blocks
    sides = [
        (batch, channels * pixels, blocks * pixels * lanes),
        (pixels, 1, lanes),
        (lanes, pixels, 1),
        (blocks, lanes * pixels, pixels * lanes),
    ]
    axes = [Axis(extent, a, b) if packs else Axis(extent, b, a) for extent, a, b in sides]
    return axes, channels % lanes


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """Without axes of one element; neighbours of the output that are neighbours in the input too are one."""
    found: list[Axis] = []
    for axis in sorted((axis for axis in axes if axis.extent > 1), key=lambda axis: -axis.written):
        if found and found[-1].read == axis.extent * axis.read:
            before = found.pop()
            axis = Axis(before.extent * axis.extent, axis.read, axis.written)
        found.append(axis)
    return found


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]

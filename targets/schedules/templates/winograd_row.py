"""Winograd convolution along one axis: filters of a few taps in a row, on blocked or channels-last sequences.

    y = A ((G g) * (B d))        m outputs from m + r - 1 inputs

F(4, 5) needs two multiplications for an output where a direct convolution needs five. With one axis errors grow by the
root of what they do with two (`Transform.amplification_in_a_row`): F(4, 5) has two and a half times the error of a
direct convolution. The rest is as in `winograd`; a tile is a piece of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.kernel import Buffers
from graphopt.targets.schedules.templates.window import window_of_image
from graphopt.targets.schedules.templates.winograd import (
    LARGEST_AMPLIFICATION,
    WinogradConvolution,
    are_whole,
)
from graphopt.targets.schedules.templates.winograd_kernel import Tile, WinogradKernel, applied
from graphopt.targets.schedules.templates.winograd_transform import PAIRS, TAPS, Transform, transformed_rows

MOST_TAPS = 7
"""More leave too few outputs to a tile."""


@dataclass(frozen=True)
class WinogradRowConvolution(WinogradConvolution):
    """A convolution along rows whose input is in the output's blocks, or channels-last: one block of them all."""

    block: int = 1
    name: str = "winograd-row-convolution"

    @classmethod
    def fitting(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> WinogradRowConvolution | None:
        anchor = Anchor.of(body)
        if anchor is None or anchor.read is None or anchor.groups != 1:
            return None
        read, made = anchor.read, anchor.made
        whole = read.block == read.channels and read.channels % made.block == 0
        if read.block != made.block and not whole:
            return None
        window = window_of_image(anchor.node, anchor.image, anchor.kernel)
        if window.kernel[0] != 1 or not TAPS <= window.kernel[1] <= MOST_TAPS or window.pads[0]:
            return None
        if window.strides != (1, 1) or window.dilations != (1, 1) or window.image[0] != window.result[0]:
            return None
        if are_whole(constants[body.inputs.index(anchor.weights)]):
            return None
        channels, filters = read.channels, made.channels
        return cls(body, anchor.node, target, window, channels, filters, made.block, block=read.block)

    # --- sizes ---

    def transform(self, outputs: int) -> Transform:
        return Transform(outputs, self.window.kernel[1])

    def places(self, outputs: int) -> int:
        return self.transform(outputs).inputs

    @property
    def choices(self) -> tuple[int, ...]:
        lengths = [inputs + TAPS - self.window.kernel[1] for inputs in PAIRS]
        found = [m for m in lengths if m > 1]
        return tuple(m for m in found if self.transform(m).amplification_in_a_row <= LARGEST_AMPLIFICATION)

    def grid(self, outputs: int) -> tuple[int, int, int]:
        """Images, rows, and tiles in a row."""
        rows, columns = self.window.result
        return self.anchor.output.static_shape[0], rows, -(-columns // outputs)

    # --- weights and kernel ---

    @staticmethod
    def transformed(weights: np.ndarray, transform: Transform) -> np.ndarray:
        return transformed_rows(weights.reshape(*weights.shape[:2], transform.taps), transform)

    def kernel(self, decision: Mapping[str, int], buffers: Buffers) -> WinogradKernel:
        outputs = decision["outputs"]
        given = self.layer, self.transform(outputs), self.grid(outputs), decision, self.target
        return _RowKernel(self.block, *given, buffers)


class _RowKernel(WinogradKernel):
    """Tiles of one row; `block` channels of the input lie together."""

    AXES = 1

    def __init__(self, block: int, *given: Any) -> None:
        super().__init__(*given)
        self.block = block

    def transform_input(self, tile: Tile, block: Expr, strand: Expr, vector: Expr) -> None:
        lanes, (height, width) = self.layer.lanes, self.layer.window.image
        outer, inner = (block, 0) if self.block == lanes else (0, block * lanes)
        blocks = -(-self.layer.channels // self.block)
        pixel = ((tile.image * blocks + outer) * height + tile.row) * width
        with T.vectorized(lanes) as lane:
            values: list[Expr | None] = []
            for tap in range(self.transform.inputs):
                position = self.columns_in.position(tile.column, tap)
                outside = tile.border and not 0 <= int(position) < width
                values.append(None if outside else self.x[(pixel + position) * self.block + inner + lane])
            for place, value in enumerate(applied(self.shrunk_input, values, self.dtype)):
                T.buffer_store(self.v.buffer, value, [self.v.index(strand, place, vector, lane)])

    def transform_output(self, tile: Tile, vector: Expr, strand: Expr, made: Expr) -> None:
        lanes, m = self.layer.lanes, self.transform.outputs
        row = T.alloc_buffer((self.places * lanes,), self.dtype, scope="local")
        for place in range(self.places):
            with T.vectorized(lanes) as lane:
                value = self.m.buffer[self.m.index(strand, place, made, lane)]
                T.buffer_store(row, value, [place * lanes + lane])
        width = self.layer.window.result[1]
        inside = min(m, width - int(tile.column) * m) if tile.border else m
        self.finish(row, tile, vector, tile.row, inside)

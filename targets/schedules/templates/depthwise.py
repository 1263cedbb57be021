"""Depthwise convolution on blocked images: one channel a lane, a piece of a row in registers.

The taps are unrolled, so an input that several outputs read is loaded once. As in `convolution`, nothing is padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import KERNEL, Graph, Node
from graphopt.ir.layout import blocked_of, to_blocks
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue, fits
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    copied,
    each,
    only_if,
    repeated,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.window import Window, window_of_image

MOST_TAPS = 49
"""Taps of a window that are unrolled at most."""


@dataclass(frozen=True)
class DepthwiseConvolution:
    """A convolution of each channel on its own; input and output have the same blocks."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    blocks: int
    lanes: int
    name: str = "depthwise-convolution"

    @classmethod
    def match(cls, body: Graph, constant: frozenset[int], target: Target) -> DepthwiseConvolution | None:
        anchors = [node for node in body.nodes if node.is_op("Conv", domain=KERNEL)]
        if len(anchors) != 1 or not fits(body, anchors[0]):
            return None
        (anchor,) = anchors
        x, kernel = anchor.input(0), anchor.ints("kernel_shape")
        made = blocked_of(anchor.output.type)
        assert x is not None and made is not None and kernel is not None
        read = blocked_of(x.type)
        if read is None or read != made or anchor.int("group", 1) != made.channels:
            return None
        if any(v is not None and v.producer is not None for v in anchor.inputs):
            return None
        if np.prod(kernel) > MOST_TAPS:
            return None
        window = window_of_image(anchor, x.static_shape[2:-1], kernel)
        return cls(body, anchor, target, window, made.blocks, made.block)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {"columns": range(1, min(self.window.result[1], self.target.vector_registers) + 1)}

    def defaults(self) -> Mapping[str, int]:
        """Half of the registers for sums, in equal pieces of the row."""
        most = max(self.target.vector_registers // 2 - 1, 1)
        pieces = -(-self.window.result[1] // most)
        return {"columns": -(-self.window.result[1] // pieces)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [block, row tap, column tap, lane], bias as [block, lane]."""
        packed = {}
        for number, value in enumerate(self.body.inputs):
            if value is self.anchor.input(1):
                weights = np.moveaxis(constants[number], 0, 1)  # (1, C, taps...)
                packed[number] = to_blocks(weights, self.lanes).reshape(-1)
            elif value is self.anchor.input(2):
                packed[number] = to_blocks(constants[number].reshape(1, -1), self.lanes).reshape(-1)
        return packed

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes = {}
        for number, value in enumerate(self.body.inputs):
            if value is self.anchor.input(1):
                sizes[number] = self.blocks * self.window.taps * self.lanes
            elif value is self.anchor.input(2):
                sizes[number] = self.blocks * self.lanes
        return build_kernel(self.body, lambda buffers: self._emit(buffers, decision["columns"]), sizes)

    def _emit(self, buffers: Buffers, columns: int) -> None:
        x, w, *rest = self.anchor.inputs
        assert x is not None and w is not None
        bias = buffers[rest[0]] if rest and rest[0] is not None else None
        epilogue = Epilogue(self.body, self.anchor, buffers)
        batch, rows = self.anchor.output.static_shape[0], self.window.result[0]
        work = batch * self.blocks * self.lanes * rows * self.window.result[1]
        work *= self.window.taps
        with spread(batch * self.blocks * rows, work) as task:
            image, block, row = taken_apart(task, batch, self.blocks, rows)
            for segment in self.window.row.segments(columns):
                with repeated(segment.count) as piece:
                    start = segment.start + piece * segment.columns
                    sums = self._sums(
                        buffers[x],
                        buffers[w],
                        bias,
                        image,
                        block,
                        row,
                        start,
                        segment.columns,
                        segment.border,
                    )
                    self._store(epilogue, sums, image, block, row, start, segment.columns)

    def _sums(
        self,
        x: tirx.Var,
        w: tirx.Var,
        bias: tirx.Var | None,
        image: Expr,
        block: Expr,
        row: Expr,
        start: Expr,
        columns: int,
        border: bool,
    ) -> tirx.Var:
        lanes, window = self.lanes, self.window
        height, width = window.image
        sums = T.alloc_buffer((columns * lanes,), "float32", scope="local")
        for column in range(columns):
            with T.vectorized(lanes) as lane:
                begin = tirx.const(0.0, "float32") if bias is None else bias[block * lanes + lane]
                T.buffer_store(sums, begin, [column * lanes + lane])
        with repeated(window.kernel[0]) as line_tap:
            line = window.line(row, line_tap)
            with only_if(window.line_exists(line)):
                pixel = ((image * self.blocks + block) * height + line) * width
                for tap in range(window.kernel[1]):
                    weights = ((block * window.kernel[0] + line_tap) * window.kernel[1] + tap) * lanes
                    for column in range(columns):
                        position = window.position(start, column, tap, border)
                        if position is None:
                            continue
                        with T.vectorized(lanes) as lane:
                            product = x[(pixel + position) * lanes + lane] * w[weights + lane]
                            place = column * lanes + lane
                            T.buffer_store(sums, sums[place] + product, [place])
        return sums

    def _store(
        self,
        epilogue: Epilogue,
        sums: tirx.Var,
        image: Expr,
        block: Expr,
        row: Expr,
        start: Expr,
        columns: int,
    ) -> None:
        if epilogue.is_long:
            sums = copied(sums, columns, self.lanes)
        for column in each(columns, looped=epilogue.is_long):
            with column as place, T.vectorized(self.lanes) as lane:
                pixel = self.window.pixel(row, start + place)
                epilogue.store(sums[place * self.lanes + lane], (image, block, *pixel, lane))

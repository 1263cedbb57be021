"""Depthwise convolution on blocked images: a multiply-add for each tap, one channel a lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.ir.layout import to_blocks
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.epilogue import Epilogue, Prologue
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.rows import Piece, Rows, Tap
from graphopt.targets.schedules.templates.window import window_of_image

MOST_TAPS = 49
"""Taps of a window that are unrolled at most."""


@dataclass(frozen=True)
class DepthwiseConvolution:
    """A convolution of each channel on its own; input and output have the same blocks."""

    body: Graph
    anchor: Node
    target: Target
    rows: Rows
    name: str = "depthwise-convolution"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> DepthwiseConvolution | None:
        anchor = Anchor.of(body)
        if anchor is None or anchor.read != anchor.made or anchor.groups != anchor.made.channels:
            return None
        if np.prod(anchor.kernel) > MOST_TAPS:
            return None
        node, made = anchor.node, anchor.made
        window = window_of_image(node, anchor.image, anchor.kernel)
        dtype = node.output.dtype.label
        rows = Rows(target, window, node.output.static_shape[0], made.blocks, made.block, dtype)
        return cls(body, node, target, rows)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {"columns": self.rows.choices()}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {"columns": self.rows.default(weights=True)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [block, row tap, column tap, lane], bias as [block, lane]."""
        packed = {}
        for number, value in enumerate(self.body.inputs):
            if value is self.anchor.input(1):
                weights = np.moveaxis(constants[number], 0, 1)  # (1, C, taps...)
                packed[number] = to_blocks(weights, self.rows.lanes).reshape(-1)
            elif value is self.anchor.input(2):
                packed[number] = to_blocks(constants[number].reshape(1, -1), self.rows.lanes).reshape(-1)
        return packed

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes = {}
        for number, value in enumerate(self.body.inputs):
            if value is self.anchor.input(1):
                sizes[number] = self.rows.blocks * self.rows.window.taps * self.rows.lanes
            elif value is self.anchor.input(2):
                sizes[number] = self.rows.blocks * self.rows.lanes
        return build_kernel(self.body, lambda buffers: self._emit(buffers, decision["columns"]), sizes)

    def _emit(self, buffers: Buffers, columns: int) -> None:
        x, w, bias = (self.anchor.input(number) for number in range(3))
        assert x is not None and w is not None
        source = Prologue(self.body, self.anchor, buffers)
        epilogue = Epilogue(self.body, self.anchor, buffers)
        lanes, kernel = self.rows.lanes, self.rows.window.kernel

        def add(sum: Expr, tap: Tap, lane: Expr) -> Expr:
            weights = ((tap.block * kernel[0] + tap.line) * kernel[1] + tap.column) * lanes
            return sum + tap.value * buffers[w][weights + lane]

        def emit(piece: Piece) -> None:
            def begin(lane: Expr) -> Expr:
                if bias is None:
                    return tirx.const(0.0, self.anchor.output.dtype.label)
                return buffers[bias][piece.block * lanes + lane]

            self.rows.store(epilogue, self.rows.results(source, piece, begin, add), piece)

        self.rows.each_piece(columns, emit)

"""Pools on blocked images: one channel a lane, nothing padded.

MaxPool and AveragePool keep a piece of a row in registers, as the depthwise convolution does; the global pools keep
several partial results, so that additions need not wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import KERNEL, Graph, Node
from graphopt.ir.layout import blocked_of
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue, fits
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    only_if,
    repeated,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.window import Window, window_of_image

POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
MOST_TAPS = 64
"""Taps of a window that are unrolled at most."""

PARTIAL_RESULTS = 4


@dataclass(frozen=True)
class BlockedPool:
    """A pool whose input and output have the same blocks."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    blocks: int
    lanes: int
    name: str = "blocked-pool"

    @classmethod
    def match(cls, body: Graph, constant: frozenset[int], target: Target) -> BlockedPool | None:
        anchors = [node for node in body.nodes if node.is_op(*POOLS, domain=KERNEL)]
        if len(anchors) != 1 or not fits(body, anchors[0]):
            return None
        (anchor,) = anchors
        x, made = anchor.input(0), blocked_of(anchor.output.type)
        assert x is not None and made is not None
        if blocked_of(x.type) != made or x.producer is not None:
            return None
        image = x.static_shape[2:-1]
        kernel = image if anchor.op_type.startswith("Global") else anchor.ints("kernel_shape")
        assert kernel is not None
        window = window_of_image(anchor, image, kernel)
        if not anchor.op_type.startswith("Global") and window.taps > MOST_TAPS:
            return None
        return cls(body, anchor, target, window, made.blocks, made.block)

    @property
    def is_global(self) -> bool:
        return self.anchor.op_type.startswith("Global")

    @property
    def is_max(self) -> bool:
        return self.anchor.op_type.endswith("MaxPool")

    def decisions(self) -> Mapping[str, Sequence[int]]:
        if self.is_global:
            return {"partial": (1, 2, 4, 8)}
        return {"columns": range(1, min(self.window.result[1], self.target.vector_registers) + 1)}

    def defaults(self) -> Mapping[str, int]:
        if self.is_global:
            return {"partial": min(PARTIAL_RESULTS, self.window.taps)}
        most = max(self.target.vector_registers // 2 - 1, 1)
        pieces = -(-self.window.result[1] // most)
        return {"columns": -(-self.window.result[1] // pieces)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        if self.is_global:
            return build_kernel(self.body, lambda buffers: self._emit_global(buffers, decision["partial"]))
        return build_kernel(self.body, lambda buffers: self._emit(buffers, decision["columns"]))

    # --- arithmetic ---

    def _start(self) -> Expr:
        return tirx.min_value("float32") if self.is_max else tirx.const(0.0, "float32")

    def _combine(self, result: Expr, value: Expr) -> Expr:
        return tirx.max(result, value) if self.is_max else result + value

    def _source(self, buffers: Buffers) -> tirx.Var:
        x = self.anchor.input(0)
        assert x is not None
        return buffers[x]

    # --- windows ---

    def _emit(self, buffers: Buffers, columns: int) -> None:
        epilogue = Epilogue(self.body, self.anchor, buffers)
        batch, rows = self.anchor.output.static_shape[0], self.window.result[0]
        work = batch * self.blocks * self.lanes * rows * self.window.result[1] * self.window.taps
        with spread(batch * self.blocks * rows, work) as task:
            image, block, row = taken_apart(task, batch, self.blocks, rows)
            for segment in self.window.row.segments(columns):
                with repeated(segment.count) as piece:
                    start = segment.start + piece * segment.columns
                    results = self._results(
                        self._source(buffers), image, block, row, start, segment.columns, segment.border
                    )
                    self._store(epilogue, results, image, block, row, start, segment.columns)

    def _results(
        self, x: tirx.Var, image: Expr, block: Expr, row: Expr, start: Expr, columns: int, border: bool
    ) -> tirx.Var:
        lanes, window = self.lanes, self.window
        height, width = window.image
        results = T.alloc_buffer((columns * lanes,), "float32", scope="local")
        for column in range(columns):
            with T.vectorized(lanes) as lane:
                T.buffer_store(results, self._start(), [column * lanes + lane])
        with repeated(window.kernel[0]) as line_tap:
            line = window.line(row, line_tap)
            with only_if(window.line_exists(line)):
                pixel = ((image * self.blocks + block) * height + line) * width
                for column in range(columns):
                    for tap in range(window.kernel[1]):
                        position = window.position(start, column, tap, border)
                        if position is None:
                            continue
                        with T.vectorized(lanes) as lane:
                            place = column * lanes + lane
                            value = self._combine(results[place], x[(pixel + position) * lanes + lane])
                            T.buffer_store(results, value, [place])
        return results

    def _store(
        self,
        epilogue: Epilogue,
        results: tirx.Var,
        image: Expr,
        block: Expr,
        row: Expr,
        start: Expr,
        columns: int,
    ) -> None:
        lines = tirx.const(1.0, "float32") if self.is_max else self._lines_that_count(row)
        for column in range(columns):
            with T.vectorized(self.lanes) as lane:
                value = results[column * self.lanes + lane]
                if not self.is_max:
                    value = value / (lines * self._columns_that_count(start + column))
                pixel = self.window.pixel(row, start + column)
                epilogue.store(value, (image, block, *pixel, lane))

    def _lines_that_count(self, row: Expr) -> Expr:
        window = self.window
        return self._taps_that_count(
            row, window.image[0], window.kernel[0], window.strides[0], window.pads[0]
        )

    def _columns_that_count(self, column: Expr) -> Expr:
        window = self.window
        return self._taps_that_count(
            column, window.image[1], window.kernel[1], window.strides[1], window.pads[1]
        )

    def _taps_that_count(self, output: Expr, size: int, taps: int, stride: int, pad: int) -> Expr:
        """How many taps of a window a mean divides by: those inside, or all of them."""
        if self.anchor.int("count_include_pad"):
            return tirx.const(float(taps), "float32")
        first = output * stride - pad
        inside = tirx.min(first + taps, size) - tirx.max(first, 0)
        return (
            inside.astype("float32")
            if isinstance(inside, tirx.Expr)
            else tirx.const(float(inside), "float32")
        )

    # --- global pools ---

    def _emit_global(self, buffers: Buffers, partial: int) -> None:
        epilogue = Epilogue(self.body, self.anchor, buffers)
        batch, lanes, x = self.anchor.output.static_shape[0], self.lanes, self._source(buffers)
        pixels = self.window.taps
        with spread(batch * self.blocks, batch * self.blocks * lanes * pixels) as task:
            image, block = taken_apart(task, batch, self.blocks)
            results = T.alloc_buffer((partial * lanes,), "float32", scope="local")
            for part in range(partial):
                with T.vectorized(lanes) as lane:
                    T.buffer_store(results, self._start(), [part * lanes + lane])

            def take(part: int, pixel: Expr) -> None:
                with T.vectorized(lanes) as lane:
                    place = part * lanes + lane
                    value = x[(task * pixels + pixel) * lanes + lane]
                    T.buffer_store(results, self._combine(results[place], value), [place])

            if pixels // partial:
                with T.serial(pixels // partial) as step:
                    for part in range(partial):
                        take(part, step * partial + part)
            for part in range(pixels % partial):
                take(part, tirx.const(pixels - pixels % partial + part, "int32"))
            with T.vectorized(lanes) as lane:
                total: Expr = results[lane]
                for part in range(1, partial):
                    total = self._combine(total, results[part * lanes + lane])
                if not self.is_max:
                    total = total / tirx.const(float(pixels), "float32")
                zeros = [tirx.const(0, "int32")] * self.window.axes
                epilogue.store(total, (image, block, *zeros, lane))

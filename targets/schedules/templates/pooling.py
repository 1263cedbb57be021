"""Pools on blocked images: one channel a lane, nothing padded.

MaxPool and AveragePool walk rows as the depthwise convolution does, and as far beyond the image as `ceil_mode` asks;
the global pools keep several partial results, so that additions need not wait for each other. Sums of float16 are kept
in float32; maxima are of integers too.
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
from graphopt.targets.lower.arithmetic import lowest
from graphopt.targets.lower.pooling import table, taps_that_count
from graphopt.targets.lower.tensors import Expr, wide_dtype
from graphopt.targets.lower.windows import window_of
from graphopt.targets.schedules.templates.epilogue import FLOATS, QUANTISED, Epilogue, Prologue, fits
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, spread, taken_apart
from graphopt.targets.schedules.templates.rows import Piece, Rows
from graphopt.targets.schedules.templates.window import window_of_image

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
    rows: Rows
    name: str = "blocked-pool"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> BlockedPool | None:
        anchors = [node for node in body.nodes if node.is_op(*POOLS, domain=KERNEL)]
        if len(anchors) != 1:
            return None
        (anchor,) = anchors
        types = (*FLOATS, *QUANTISED) if anchor.op_type.endswith("MaxPool") else FLOATS
        if not fits(body, anchor, types, prologue=True):
            return None
        x, made = anchor.input(0), blocked_of(anchor.output.type)
        assert x is not None and made is not None
        if blocked_of(x.type) != made:
            return None
        image = x.static_shape[2:-1]
        kernel = image if anchor.op_type.startswith("Global") else anchor.ints("kernel_shape")
        assert kernel is not None
        window = window_of_image(anchor, image, kernel)
        if not anchor.op_type.startswith("Global") and window.taps > MOST_TAPS:
            return None
        dtype = anchor.output.dtype.label
        combined = dtype if anchor.op_type.endswith("MaxPool") else wide_dtype(dtype)
        rows = Rows(target, window, anchor.output.static_shape[0], made.blocks, made.block, combined)
        return cls(body, anchor, target, rows)

    @property
    def is_global(self) -> bool:
        return self.anchor.op_type.startswith("Global")

    @property
    def is_max(self) -> bool:
        return self.anchor.op_type.endswith("MaxPool")

    def decisions(self) -> Mapping[str, Sequence[int]]:
        if self.is_global:
            return {"partial": (1, 2, 4, 8)}
        return {"columns": self.rows.choices()}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        if self.is_global:
            return {"partial": min(PARTIAL_RESULTS, self.rows.window.taps)}
        return {"columns": self.rows.default()}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        if self.is_global:
            return build_kernel(self.body, lambda buffers: self._emit_global(buffers, decision["partial"]))
        return build_kernel(self.body, lambda buffers: self._emit(buffers, decision["columns"]))

    # --- arithmetic ---

    def _start(self) -> Expr:
        return lowest(self.rows.dtype) if self.is_max else tirx.const(0.0, self.rows.dtype)

    def _combine(self, result: Expr, value: Expr) -> Expr:
        return tirx.max(result, value) if self.is_max else result + value.astype(self.rows.dtype)

    # --- windows ---

    def _emit(self, buffers: Buffers, columns: int) -> None:
        source = Prologue(self.body, self.anchor, buffers)
        epilogue = Epilogue(self.body, self.anchor, buffers)
        lines, places = ([], []) if self.is_max else self._taps_that_count()

        def emit(piece: Piece) -> None:
            results = self.rows.results(
                source,
                piece,
                lambda lane: self._start(),
                lambda result, tap, lane: self._combine(result, tap.value),
            )
            if not self.is_max:
                self._divide(results, piece, lines, places)
            self.rows.store(epilogue, results, piece)

        self.rows.each_piece(columns, emit)

    def _taps_that_count(self) -> list[list[int]]:
        """How many rows and columns of the window at each row and column of the result a mean divides by."""
        x, kernel = self.anchor.input(0), self.anchor.ints("kernel_shape")
        assert x is not None and kernel is not None
        image, result = x.static_shape[2:-1], self.anchor.output.static_shape[2:-1]
        window, with_pads = window_of(self.anchor, kernel, image), bool(self.anchor.int("count_include_pad"))
        counts = taps_that_count(window, image, result, with_pads)
        return [[1]] * (2 - len(counts)) + counts

    def _divide(self, results: tirx.Var, piece: Piece, lines: list[int], places: list[int]) -> None:
        """Sums become means."""
        line = table(piece.row, lines, self.rows.dtype)
        for column in range(piece.columns):
            inside = places[int(piece.start) + column] if piece.border else self.rows.window.kernel[1]
            with T.vectorized(self.rows.lanes) as lane:
                place = column * self.rows.lanes + lane
                T.buffer_store(
                    results, results[place] / (line * tirx.const(inside, self.rows.dtype)), [place]
                )

    # --- global pools ---

    def _emit_global(self, buffers: Buffers, partial: int) -> None:
        epilogue = Epilogue(self.body, self.anchor, buffers)
        source = Prologue(self.body, self.anchor, buffers)
        batch, lanes, window = self.rows.batch, self.rows.lanes, self.rows.window
        pixels = window.taps
        with spread(batch * self.rows.blocks, batch * self.rows.blocks * lanes * pixels) as task:
            image, block = taken_apart(task, batch, self.rows.blocks)
            results = T.alloc_buffer((partial * lanes,), self.rows.dtype, scope="local")
            for part in range(partial):
                with T.vectorized(lanes) as lane:
                    T.buffer_store(results, self._start(), [part * lanes + lane])

            def take(part: int, pixel: Expr) -> None:
                row, column = taken_apart(pixel, *window.image)
                with T.vectorized(lanes) as lane:
                    place = part * lanes + lane
                    value = source.read((image, block, *window.pixel(row, column), lane))
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
                    total = total / tirx.const(float(pixels), self.rows.dtype)
                zeros = [tirx.const(0, "int32")] * window.axes
                epilogue.store(total, (image, block, *zeros, lane))

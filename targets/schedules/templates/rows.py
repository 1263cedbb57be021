"""Windows that stay within their channel, walked row by row over a blocked image: one channel a lane.

A piece of a row of results is kept in registers while all taps of its windows go by; what depthwise convolutions and
pools do with a tap is theirs. The taps along a row are unrolled, so an input that several outputs read is loaded once.
Nothing is padded: rows outside are skipped at run time, taps outside when the kernel is built.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import copied, each, only_if, repeated, spread, taken_apart
from graphopt.targets.schedules.templates.window import Window


@dataclass(frozen=True)
class Piece:
    """`columns` neighbouring outputs from `start` on, of one row of one block; at a `border` some taps are outside."""

    image: Expr
    block: Expr
    row: Expr
    start: Expr
    columns: int
    border: bool


@dataclass(frozen=True)
class Tap:
    """Tap (`line`, `column`) of a window of `block`, and the vector that it reads."""

    block: Expr
    line: Expr
    column: int
    value: Expr


@dataclass(frozen=True)
class Rows:
    """The results of a window: `batch` images of `blocks` blocks of channels, `lanes` wide."""

    window: Window
    batch: int
    blocks: int
    lanes: int

    def choices(self, target: Target) -> Sequence[int]:
        """How many columns a piece may have."""
        return range(1, min(self.window.result[1], target.vector_registers) + 1)

    def default(self, target: Target) -> int:
        """Half of the registers for results, in equal pieces of the row."""
        most = max(target.vector_registers // 2 - 1, 1)
        pieces = -(-self.window.result[1] // most)
        return -(-self.window.result[1] // pieces)

    def each_piece(self, columns: int, emit: Callable[[Piece], None]) -> None:
        """Every piece in turn, rows spread over threads."""
        rows = self.window.result[0]
        work = self.batch * self.blocks * self.lanes * rows * self.window.result[1] * self.window.taps
        with spread(self.batch * self.blocks * rows, work) as task:
            image, block, row = taken_apart(task, self.batch, self.blocks, rows)
            for segment in self.window.row.segments(columns):
                with repeated(segment.count) as number:
                    start = segment.start + number * segment.columns
                    emit(Piece(image, block, row, start, segment.columns, segment.border))

    def results(
        self,
        x: tirx.Var,
        piece: Piece,
        begin: Callable[[Expr], Expr],
        combine: Callable[[Expr, Tap, Expr], Expr],
    ) -> tirx.Var:
        """A vector for each column: `begin(lane)`, then `combine(result, tap, lane)` for each tap inside `x`."""
        lanes, window = self.lanes, self.window
        height, width = window.image
        results = T.alloc_buffer((piece.columns * lanes,), "float32", scope="local")
        for column in range(piece.columns):
            with T.vectorized(lanes) as lane:
                T.buffer_store(results, begin(lane), [column * lanes + lane])
        with repeated(window.kernel[0]) as line_tap:
            line = window.line(piece.row, line_tap)
            with only_if(window.line_exists(line)):
                pixel = ((piece.image * self.blocks + piece.block) * height + line) * width
                for column, tap in self._by_position(piece.columns):
                    position = window.position(piece.start, column, tap, piece.border)
                    if position is None:
                        continue
                    with T.vectorized(lanes) as lane:
                        place = column * lanes + lane
                        read = Tap(piece.block, line_tap, tap, x[(pixel + position) * lanes + lane])
                        T.buffer_store(results, combine(results[place], read, lane), [place])
        return results

    def _by_position(self, columns: int) -> list[tuple[int, int]]:
        """Columns and taps in the order of what they read: an input is used up as soon as it is loaded, and results
        that follow one another do not wait for each other."""
        taps = itertools.product(range(columns), range(self.window.kernel[1]))
        return sorted(taps, key=lambda pair: self.window.row.position(*pair))

    def store(self, epilogue: Epilogue, results: tirx.Var, piece: Piece) -> None:
        """Finish the results of a piece and write them."""
        if epilogue.is_long:
            results = copied(results, piece.columns, self.lanes)
        for column in each(piece.columns, looped=epilogue.is_long):
            with column as place, T.vectorized(self.lanes) as lane:
                pixel = self.window.pixel(piece.row, piece.start + place)
                indices = (piece.image, piece.block, *pixel, lane)
                epilogue.store(results[place * self.lanes + lane], indices)

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
from graphopt.targets.schedules.templates.epilogue import Epilogue, Prologue
from graphopt.targets.schedules.templates.kernel import (
    copied,
    each,
    either,
    only_if,
    repeated,
    settled,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.window import Window

STRIP = 8
"""Rows that are walked one after another with the same weights in registers."""

UNROLLED = 1 / 3
"""Of the registers: windows of up to so many taps are written out. Weights then stay in registers from row to row."""

EPILOGUE = 2
"""Registers for the bounds of an activation."""


@dataclass(frozen=True)
class Piece:
    """`columns` neighbouring outputs from `start` on, of one row of one block.

    At a `border` some taps of a row fall outside, where rows may be `outside` some of a column.
    """

    image: Expr
    block: Expr
    row: Expr
    start: Expr
    columns: int
    border: bool
    outside: bool


@dataclass(frozen=True)
class Tap:
    """Tap (`line`, `column`) of a window of `block`, and the vector that it reads."""

    block: Expr
    line: Expr
    column: int
    value: Expr


@dataclass(frozen=True)
class Rows:
    """The results of a window: `batch` images of `blocks` blocks of channels, `lanes` wide, combined in `dtype`."""

    target: Target
    window: Window
    batch: int
    blocks: int
    lanes: int
    dtype: str

    @property
    def unrolled(self) -> bool:
        """All taps of a window that is inside are written out; else those of a row."""
        return self.window.taps <= UNROLLED * self.target.vector_registers

    def choices(self) -> Sequence[int]:
        """How many columns a piece may have."""
        return range(1, min(self.window.result[1], self.target.vector_registers) + 1)

    def default(self, *, weights: bool = False) -> int:
        """Equal pieces of the row, with half of the registers for results; or less where weights are in registers."""
        registers = self.target.vector_registers
        most = registers // 2 - 1
        if weights and not self.target.memory_operands:
            kept = self.window.taps if self.unrolled else self.window.kernel[1]
            most = (registers - kept - EPILOGUE) // (1 + self.window.strides[1])
        pieces = -(-self.window.result[1] // max(most, 1))
        return -(-self.window.result[1] // pieces)

    def each_piece(self, columns: int, emit: Callable[[Piece], None]) -> None:
        """Every piece in turn. Threads share strips of rows that have all their taps, and the rows at a border."""
        rows = self.window.result[0]
        whole = self.window.whole_rows
        strips = -(-len(whole) // STRIP)
        units = strips + rows - len(whole)
        work = self.batch * self.blocks * self.lanes * rows * self.window.result[1] * self.window.taps
        with spread(self.batch * self.blocks * units, work) as task:
            image, block, unit = taken_apart(task, self.batch, self.blocks, units)

            def row_of_pieces(row: Expr, border: bool) -> None:
                for segment in self.window.row.segments(columns):
                    with repeated(segment.count) as number:
                        start = segment.start + number * segment.columns
                        emit(Piece(image, block, row, start, segment.columns, segment.border, border))

            def strip() -> None:
                first = unit * STRIP
                with T.serial(
                    STRIP if len(whole) % STRIP == 0 else tirx.min(STRIP, len(whole) - first)
                ) as step:
                    row_of_pieces(whole.start + first + step, False)

            def border() -> None:
                row_of_pieces(self._border_row(unit - strips), True)

            if not strips:
                row_of_pieces(unit, True)
            else:
                either(unit < strips if units > strips else None, strip, border)

    def _border_row(self, number: Expr) -> Expr:
        """Row `number` of those above and below the rows that have all their taps."""
        whole = self.window.whole_rows
        if whole.start == 0:
            return number + len(whole)
        if whole.stop == self.window.result[0]:
            return number
        return settled(tirx.Select(number < whole.start, number, number + len(whole)))

    def results(
        self,
        x: Prologue,
        piece: Piece,
        begin: Callable[[Expr], Expr],
        combine: Callable[[Expr, Tap, Expr], Expr],
    ) -> tirx.Var:
        """A vector for each column: `begin(lane)`, then `combine(result, tap, lane)` for each tap inside."""
        lanes, window = self.lanes, self.window
        results = T.alloc_buffer((piece.columns * lanes,), self.dtype, scope="local")
        for column in range(piece.columns):
            with T.vectorized(lanes) as lane:
                T.buffer_store(results, begin(lane), [column * lanes + lane])
        if not piece.outside and self.unrolled:
            for tap in range(window.kernel[0]):
                self._line(results, x, piece, tap, combine)
            return results
        with repeated(window.kernel[0]) as tap:
            exists = window.line_exists(window.line(piece.row, tap)) if piece.outside else None
            with only_if(exists):
                self._line(results, x, piece, tap, combine)
        return results

    def _line(
        self,
        results: tirx.Var,
        x: Prologue,
        piece: Piece,
        line_tap: Expr,
        combine: Callable[[Expr, Tap, Expr], Expr],
    ) -> None:
        """The taps in one row of the image."""
        lanes, window = self.lanes, self.window
        line = window.line(piece.row, line_tap)
        for column, tap in self._by_position(piece.columns):
            position = window.position(piece.start, column, tap, piece.border)
            if position is None:
                continue
            with T.vectorized(lanes) as lane:
                place = column * lanes + lane
                value = x.read((piece.image, piece.block, *window.pixel(line, position), lane))
                read = Tap(piece.block, line_tap, tap, value)
                T.buffer_store(results, combine(results[place], read, lane), [place])

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

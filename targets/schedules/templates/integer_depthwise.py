"""Depthwise convolution of bytes in blocks of 16 channels: sums of 32 bits, one channel a lane.

Small windows are written out output by output: an output is finished before the next one begins, and what both read
stays in registers. Larger ones go row by row, with the sums of several outputs in registers. Nothing is padded: taps
outside along a row are left out when the kernel is built; of a row of taps outside, zeros are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.ir.layout import to_blocks
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.anchor import Anchor
from graphopt.targets.schedules.templates.channel_choice import taps_of
from graphopt.targets.schedules.templates.channel_taps import ChannelTaps, Place
from graphopt.targets.schedules.templates.dot.pointer import Masked, Pointer, Words
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, repeated, settled
from graphopt.targets.schedules.templates.rows import Piece, Rows
from graphopt.targets.schedules.templates.starts import BLOCK, Starts
from graphopt.targets.schedules.templates.window import window_of_image

MOST_TAPS = 49
"""Taps of a window at most."""

WRITTEN_OUT = 12
"""Taps of a window that is written out as a whole."""

AT_ONCE = 8
"""Outputs of such a window that are written out at most."""

Line = Callable[[Expr], Pointer]
"""From a place in a row of the image to the bytes there."""


@dataclass(frozen=True)
class IntegerDepthwise:
    """A convolution of each channel on its own."""

    body: Graph
    anchor: Node
    target: Target
    rows: Rows
    taps: ChannelTaps
    starts: Starts

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> IntegerDepthwise | None:
        anchor = Anchor.of_bytes(body)
        if anchor is None or anchor.read != anchor.made or anchor.groups != anchor.made.channels:
            return None
        node, made = anchor.node, anchor.made
        window = window_of_image(node, anchor.image, anchor.kernel)
        starts = Starts.of(window, node.int("x_zero_point"))
        if window.taps > MOST_TAPS:
            return None
        rows = Rows(target, window, node.output.static_shape[0], made.blocks, made.block, "int32")
        weights = constants.get(body.inputs.index(anchor.weights))
        if weights is None:
            return None
        taps = taps_of(anchor.x.dtype, weights, window.kernel, target)
        return cls(body, node, target, rows, taps, starts)

    @property
    def name(self) -> str:
        return f"integer-depthwise-{self.taps.name}"

    @property
    def is_written_out(self) -> bool:
        return self.rows.window.taps <= WRITTEN_OUT

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {"columns": self.rows.choices()}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """Equal pieces of the row."""
        results, window = self.rows.window.result[1], self.rows.window
        most = AT_ONCE
        if not self.is_written_out:
            vectors = BLOCK * 32 // self.target.vector_bits
            most = (self.target.vector_registers - window.kernel[1] - self.taps.spare) // max(vectors, 1)
        pieces = -(-results // max(most, 1))
        return {"columns": -(-results // pieces)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as `taps` wants them, starts as [block, start, lane]; those before the weights where there is no
        bias in whose place they are."""
        weights, bias = self._operand(constants, 1), self._operand(constants, 2)
        assert weights is not None
        image = weights.reshape(1, len(weights), *self.rows.window.kernel)
        taps = self.taps.pack(to_blocks(image, BLOCK)[0])
        by_start = self.starts.pack(weights.reshape(len(weights), 1, *self.rows.window.kernel), bias)
        starts = to_blocks(by_start.T[np.newaxis], BLOCK).reshape(-1)
        if bias is not None:
            return {self._number(1): taps, self._number(2): starts}
        return {
            self._number(1): np.concatenate([starts.view(taps.dtype), taps]) if self.starts.zero else taps
        }

    def _operand(self, constants: Mapping[int, np.ndarray], operand: int) -> np.ndarray | None:
        return None if self.anchor.input(operand) is None else constants[self._number(operand)]

    def _number(self, operand: int) -> int:
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        starts = self.rows.blocks * self.starts.count * BLOCK
        sizes = {self._number(1): self.starts_before * starts + self.rows.blocks * self.taps.block_elements}
        if self.anchor.input(2) is not None:
            sizes[self._number(2)] = starts
        dtypes = {self._number(1): self.taps.dtype}
        return build_kernel(
            self.body, lambda buffers: self._emit(buffers, decision["columns"]), sizes, dtypes
        )

    @property
    def starts_before(self) -> int:
        """Elements that a start takes among the weights."""
        if self.anchor.input(2) is not None or not self.starts.zero:
            return 0
        return 32 // np.dtype(self.taps.dtype).itemsize // 8

    def _emit(self, buffers: Buffers, columns: int) -> None:
        emission = _Emission(self, buffers)
        self.rows.each_piece(columns, emission.write)


class _Emission:
    """Writes one kernel."""

    def __init__(self, layer: IntegerDepthwise, buffers: Buffers) -> None:
        x, w, bias = (layer.anchor.input(number) for number in range(3))
        assert x is not None and w is not None
        self.layer = layer
        self.rows, self.window, self.taps = layer.rows, layer.rows.window, layer.taps
        self.x, self.weights = buffers[x], Pointer(buffers[w])
        self.starts: Pointer | None = None
        if bias is not None:
            self.starts = Pointer(buffers[bias])
        elif layer.starts_before:
            self.starts = Words(buffers[w])
            self.weights += layer.starts_before * self.rows.blocks * layer.starts.count * BLOCK
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)

    def write(self, piece: Piece) -> None:
        if self.layer.is_written_out:
            lines = self._lines(piece, 0, self.window.kernel[0])
            for column in range(piece.columns):
                self._outputs(piece, [column], lines)
        else:
            self._outputs(piece, range(piece.columns))

    def _outputs(self, piece: Piece, columns: Sequence[int], lines: Sequence[Line] = ()) -> None:
        """These columns of a piece, whose sums are in registers together; all rows of the kernel read `lines`, or one
        step after another reads its own."""
        sums = T.alloc_buffer((len(columns) * BLOCK,), "int32", scope="local")
        places = {column: Pointer(sums, number * BLOCK) for number, column in enumerate(columns)}
        for column, place in places.items():
            place.store(self._start(piece, column))
        weights = self.weights + piece.block * self.taps.block_elements
        if lines:
            self._add(piece, places, lines, weights)
        else:
            self._steps(piece, places, weights)
        self._store(piece, sums, columns)

    def _steps(self, piece: Piece, places: Mapping[int, Pointer], weights: Pointer) -> None:
        rows, together = self.window.kernel[0], self.taps.lines
        rest = rows % together
        with repeated(rows // together) as step:
            first = step * together
            lines = self._lines(piece, first, together)
            self._add(piece, places, lines, weights + first * self.taps.line_elements)
        if rest:
            lines = self._lines(piece, rows - rest, rest)
            self._add(piece, places, lines, weights + (rows - rest) * self.taps.line_elements)

    def _start(self, piece: Piece, column: int) -> Expr:
        if self.starts is None:
            return tirx.Broadcast(tirx.const(0, "int32"), BLOCK)
        starts = self.layer.starts
        number = starts.number(
            piece.row if piece.outside else None, int(piece.start) + column if piece.border else None
        )
        return (self.starts + (piece.block * starts.count + number) * BLOCK).load(BLOCK)

    def _add(
        self, piece: Piece, places: Mapping[int, Pointer], lines: Sequence[Line], weights: Pointer
    ) -> None:
        """The taps of the rows of the kernel that read `lines`."""
        for column, place in places.items():
            positions = {
                tap: position
                for tap in range(self.window.kernel[1])
                if (position := self.window.position(piece.start, column, tap, piece.border)) is not None
            }
            inside = [(line, tap) for line in range(len(lines)) for tap in positions]

            def read(at: Place, positions: Mapping[int, Expr] = positions) -> Pointer:
                return lines[at[0]](positions[at[1]])

            for group in self.taps.groups(inside):
                self.taps.add(place, group, read, weights)

    def _lines(self, piece: Piece, first: Expr | int, count: int) -> list[Line]:
        """What `count` rows of the kernel read, from `first` on."""
        return [self._line(piece, first + number) for number in range(count)]

    def _line(self, piece: Piece, tap: Expr | int) -> Line:
        """The row that row tap `tap` reads; zeros where it is outside."""
        line, mask = self.window.line(piece.row, tap), None
        exists = self.window.line_exists(line) if piece.outside else None
        if exists is not None:
            mask = settled(tirx.Select(exists, tirx.const(-1, "int32"), tirx.const(0, "int32")))
            line = settled(tirx.max(tirx.min(line, self.window.image[0] - 1), 0))
        row = (
            (piece.image * self.rows.blocks + piece.block) * self.window.image[0] + line
        ) * self.window.image[1]

        def at(position: Expr) -> Pointer:
            place = (row + position) * BLOCK
            return Pointer(self.x, place) if mask is None else Masked(self.x, place, mask)

        return at

    def _store(self, piece: Piece, sums: tirx.Var, columns: Sequence[int]) -> None:
        for number, column in enumerate(columns):
            with T.vectorized(BLOCK) as lane:
                pixel = self.window.pixel(piece.row, piece.start + column)
                self.epilogue.store(sums[number * BLOCK + lane], (piece.image, piece.block, *pixel, lane))

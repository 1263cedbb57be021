"""A convolution of bytes over few channels: the windows of a few outputs side by side in a buffer (im2col).

A dot product of 16 channels has little to do with the 3 of a photograph. The taps along a row of the image follow each
other in memory, so a window is as many runs of bytes as it has rows; put together they are channels of a pointwise
convolution, for as many outputs as a tile has columns. They stay in the cache until all output channels are made. The
image is copied once before, with zeros around it. Source: Chellapilla et al., "High performance convolutional neural
networks for document processing", 2006.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot import Pointer, Sums
from graphopt.targets.schedules.templates.integer_kernel import IntegerKernel
from graphopt.targets.schedules.templates.kernel import either, element_type, repeated, spread, taken_apart
from graphopt.targets.schedules.templates.tiled_image import Tile

AT_ONCE = 16
"""Elements that are copied at once, at least; what is too much is written over, or multiplied with weights of zero."""


class GatheredKernel(IntegerKernel):
    """Writes one kernel; `padded` is the image with zeros around it, `x` the windows of a tile."""

    def walk(self, work: int) -> None:
        rows, columns = self.window.result
        whole = self.batch * rows * columns * work
        self.padded, self.x = self.x, self.x
        with spread(self.batch * rows, whole) as self.task:
            image, row = taken_apart(self.task, self.batch, rows)
            self.x = T.alloc_buffer(
                (self.columns * self.layer.unit + self.at_once,), element_type(self.padded)
            )
            for segment in self.window.row.segments(self.columns):
                with repeated(segment.count) as piece:
                    self._gather(image, row, segment.start + piece * segment.columns, segment.columns)
                    with repeated(self.tiles) as tile:
                        self._tiles(image, 0, tile, row, segment, piece)

    @property
    def at_once(self) -> int:
        """Elements of a run that are copied at once: all of them where a vector holds them."""
        x = self.layer.anchor.inputs[0]
        assert x is not None
        size = tvm.DataType(self.dot.read_as(x.dtype.label)).bits
        longest = max(length for _, length in self._runs())
        return max(AT_ONCE, min(1 << (longest - 1).bit_length(), self.layer.target.vector_bits // size))

    # --- the image with zeros around it ---

    @property
    def _padded_sizes(self) -> tuple[int, int]:
        """Rows, and elements of a row, that windows reach."""
        reach = [
            (outputs - 1) * stride + (taps - 1) * dilation + 1
            for outputs, stride, taps, dilation in zip(
                self.window.result,
                self.window.strides,
                self.window.kernel,
                self.window.dilations,
                strict=True,
            )
        ]
        return reach[0], reach[1] * self.layer.block

    def _readable(self, x: tirx.Var) -> tirx.Var:
        rows, row = self._padded_sizes
        dtype = self.dot.read_as(element_type(x))
        padded = T.alloc_buffer((self.batch * rows * row + self.at_once,), dtype)
        height, width = self.window.image
        top, left = self.window.pads
        before = left * self.layer.block
        copied = min(width * self.layer.block, row - before)
        with spread(self.batch * rows, self.batch * rows * row) as number:
            image, line = taken_apart(number, self.batch, rows)
            target = number * row
            source = ((image * height) + line - top) * (width * self.layer.block)

            def copy() -> None:
                _each(before, lambda at: T.buffer_store(padded, tirx.const(0, dtype), [target + at]))
                _each(
                    copied,
                    lambda at: T.buffer_store(padded, x[source + at].astype(dtype), [target + before + at]),
                )
                after = before + copied
                _each(
                    row - after,
                    lambda at: T.buffer_store(padded, tirx.const(0, dtype), [target + after + at]),
                )

            def clear() -> None:
                _each(row, lambda at: T.buffer_store(padded, tirx.const(0, dtype), [target + at]))

            inside = None if top <= 0 and rows - top <= height else tirx.all(line >= top, line < top + height)
            either(inside, copy, clear)
        return padded

    # --- the windows ---

    def _gather(self, image: Expr, row: Expr, start: Expr, columns: int) -> None:
        rows, line = self._padded_sizes
        window, block = self.window, self.layer.block
        for column in range(columns):
            target = column * self.layer.unit
            for down in range(window.kernel[0]):
                place = image * rows + row * window.strides[0] + down * window.dilations[0]
                source = place * line + (start + column) * (window.strides[1] * block)
                for across, length in self._runs():
                    self._copy(target, source + across * window.dilations[1] * block, length)
                    target += length

    def _runs(self) -> list[tuple[int, int]]:
        """The first tap of each run along a row, and its elements."""
        taps, block = self.window.kernel[1], self.layer.block
        if self.window.dilations[1] == 1:
            return [(0, taps * block)]
        return [(tap, block) for tap in range(taps)]

    def _copy(self, target: int, source: Expr, length: int) -> None:
        for first in range(0, length, self.at_once):
            chunk = Pointer(self.padded, source + first).load(self.at_once)
            Pointer(self.x, target + first).store(chunk)

    # --- the sums ---

    def _reduce(self, sums: Sums, tile: Tile) -> None:
        layer = self.layer
        with repeated(layer.steps) as step:
            columns: list[Pointer | None] = [
                Pointer(self.x, column * layer.unit + step * self.dot.depth) for column in range(tile.columns)
            ]
            self.dot.step(sums, columns, self.weights + (tile.part * layer.steps + step) * self.step)


def _each(count: int, write: Callable[[Expr], None]) -> None:
    """`write` at each of so many places, in vectors."""
    whole, rest = divmod(count, AT_ONCE)
    if whole:
        with T.serial(whole) as step, T.vectorized(AT_ONCE) as lane:
            write(step * AT_ONCE + lane)
    if rest:
        with T.vectorized(rest) as lane:
            write(whole * AT_ONCE + lane)

"""A pointwise convolution whose inputs are prepared as they are read: scaled, shifted, gated, cut.

A task takes as many pixels as a tile has columns, prepares all their channels once, into a strip that stays in the
cache, and makes all output channels from it. So the prepared image is nowhere written as a whole: pre-activation
(He et al., "Identity mappings in deep residual networks", 2016) and the gates of squeeze-and-excitation cost no pass
over the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.convolution_kernel import ConvolutionKernel
from graphopt.targets.schedules.templates.epilogue import Epilogue, Prologue
from graphopt.targets.schedules.templates.kernel import Buffers, either, repeated, spread, taken_apart
from graphopt.targets.schedules.templates.tile import Segment
from graphopt.targets.schedules.templates.tiled_image import Tile


class PreparedKernel(ConvolutionKernel):
    """Writes one kernel; `x` is the strip."""

    def emit(self, buffers: Buffers) -> None:
        layer = self.layer
        _, w, *rest = layer.anchor.inputs
        assert w is not None
        self.w = buffers[w]
        self.bias = buffers[rest[0]] if rest and rest[0] is not None else None
        self.prologue = Prologue(layer.body, layer.anchor, buffers)
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        segments = layer.window.row.segments(self.columns)
        count = sum(segment.count for segment in segments)
        work = self.batch * layer.filters * layer.channels * layer.window.result[1]
        with spread(self.batch * count, work) as self.task:
            image, number = taken_apart(self.task, self.batch, count)
            self.x = T.alloc_buffer((self.blocks * self.columns * layer.lanes,), layer.dtype)
            self._strip(image, number, segments)

    def _strip(self, image: Expr, number: Expr, segments: Sequence[Segment]) -> None:
        """Strip number `number` of an image."""
        first, *others = segments

        def write() -> None:
            self._prepare(image, first.start + number * first.columns, first.columns)
            with repeated(self.tiles) as tile:
                self._tiles(image, 0, tile, 0, first, number)

        either(
            number < first.count if others else None,
            write,
            lambda: self._strip(image, number - first.count, others),
        )

    def _prepare(self, image: Expr, start: Expr, columns: int) -> None:
        layer, lanes = self.layer, self.layer.lanes
        with repeated(self.blocks) as block, repeated(columns) as column, T.vectorized(lanes) as lane:
            pixel = layer.window.pixel(0, start + column)
            value = self.prologue.read((image, block, *pixel, lane))
            T.buffer_store(self.x, value, [(block * self.columns + column) * lanes + lane])

    def _rows(self, sums: tirx.Var, tile: Tile, block: Expr, channels: int) -> None:
        """The single tap reads the strip."""
        base = (tile.part * self.blocks + block) * self.layer.block
        read = self._held if self.hold else self._streamed
        read(sums, replace(tile, start=0), block * self.columns, base, channels)

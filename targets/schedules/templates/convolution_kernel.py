"""The kernel of a direct convolution, written out tile by tile.

The sums of a tile stay in registers over the whole reduction. What is read of a row is either broadcast element by
element, or held: loaded once in vectors along the row, each element multiplied from the lane it is in.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.held import Cover
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    copied,
    each,
    only_if,
    repeated,
)
from graphopt.targets.schedules.templates.prefetch import fetch_ahead
from graphopt.targets.schedules.templates.sums import Totals
from graphopt.targets.schedules.templates.tiled_image import Tile, TiledImage

if TYPE_CHECKING:
    from graphopt.targets.schedules.templates.convolution import DirectConvolution


class ConvolutionKernel(TiledImage):
    """Writes one kernel, whose weights begin at element `weights` of their buffer."""

    def __init__(self, layer: DirectConvolution, decision: Mapping[str, int], weights: int = 0) -> None:
        batch = layer.anchor.output.static_shape[0]
        sizes = batch, layer.groups, layer.blocks, layer.vectors
        super().__init__(layer.window, *sizes, decision["columns"], decision["vectors"])
        self.layer = layer
        self.weights = weights
        self.hold = bool(decision["hold"])

    def function(self) -> tirx.PrimFunc:
        return build_kernel(self.layer.body, self.emit, self.sizes())

    def sizes(self) -> dict[int, int]:
        """Elements of the packed operands, by number."""
        layer = self.layer
        numbers = {value: number for number, value in enumerate(layer.body.inputs)}
        wide = self.vectors * layer.lanes
        weights = layer.groups * self.tiles * wide * self.blocks * layer.block * layer.window.taps
        sizes = {numbers[layer.anchor.inputs[1]]: weights}  # type: ignore[index]
        bias = layer.anchor.input(2)
        if bias is not None:
            sizes[numbers[bias]] = layer.groups * layer.vectors * layer.lanes
        return sizes

    def emit(self, buffers: Buffers) -> None:
        layer = self.layer
        x, w, *rest = layer.anchor.inputs
        assert x is not None and w is not None
        self.x, self.w = buffers[x], buffers[w]
        self.bias = buffers[rest[0]] if rest and rest[0] is not None else None
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        self.walk(layer.filters * layer.channels * layer.window.taps)

    def write_tile(self, tile: Tile) -> None:
        sums = self._begun(tile, self.bias)
        self._reduce(sums, tile)
        self._store(sums, tile)

    # --- the sums ---

    def _begun(self, tile: Tile, bias: tirx.Var | None) -> tirx.Var:
        """Sums of nothing but the bias."""
        lanes, dtype = self.layer.lanes, self.layer.dtype
        sums = T.alloc_buffer((tile.columns * tile.vectors * lanes,), dtype, scope="local")
        for column in range(tile.columns):
            for vector in range(tile.vectors):
                with T.vectorized(lanes) as lane:
                    begin = tirx.const(0.0, dtype)
                    if bias is not None:
                        begin = bias[(tile.first + vector) * lanes + lane]
                    T.buffer_store(sums, begin, [(column * tile.vectors + vector) * lanes + lane])
        return sums

    def _reduce(self, sums: tirx.Var, tile: Tile) -> None:
        """Block of channels by block; the last one may be filled in part."""
        at_once = self.layer.blocks_at_once
        whole, rest = divmod(self.layer.channels, self.layer.block)
        if at_once >= self.blocks:
            self._blocks(sums, tile, 0, whole, rest)
            return
        totals = Totals.of(sums, tile.columns * tile.vectors, self.layer.lanes, self.task)

        def add(first: Expr, whole: int, rest: int) -> None:
            part = self._begun(tile, None)
            self._blocks(part, tile, first, whole, rest)
            totals.add(part)

        with T.serial(whole // at_once) as chunk:
            add(chunk * at_once, at_once, 0)
        if whole % at_once or rest:
            add(whole - whole % at_once, whole % at_once, rest)
        totals.fetch(sums)

    def _blocks(self, sums: tirx.Var, tile: Tile, first: Expr, whole: int, rest: int) -> None:
        """`whole` blocks from `first` on, and `rest` channels of the one behind."""
        if whole:
            with repeated(whole) as block:
                self._rows(sums, tile, first + block, self.layer.block)
        if rest:
            self._rows(sums, tile, first + whole, rest)

    def _rows(self, sums: tirx.Var, tile: Tile, block: Expr, channels: int) -> None:
        """Add a block of channels: all taps of all rows that lie inside the image."""
        layer, window = self.layer, self.layer.window
        height, width = window.image
        with repeated(window.kernel[0]) as tap:
            line = window.line(tile.row, tap)
            with only_if(window.line_exists(line)):
                pixel = ((tile.source + block) * height + line) * width
                base = ((tile.part * self.blocks + block) * window.kernel[0] + tap) * window.kernel[1]
                if self.hold:
                    self._held(sums, tile, pixel, base * layer.block, channels)
                else:
                    self._streamed(sums, tile, pixel, base * layer.block, channels)

    def _streamed(self, sums: tirx.Var, tile: Tile, pixel: Expr, base: Expr, channels: int) -> None:
        """Inputs are read one by one and broadcast."""
        layer = self.layer
        taps = layer.window.kernel[1]
        reads = [(tap, column) for tap in range(taps) for column in range(tile.columns)]
        if layer.taps_kept > 1:
            reads.sort(key=lambda read: layer.window.row.position(read[1], read[0]))
        wide = self.vectors * layer.lanes
        with T.serial(channels) as channel:
            first = self.weights + (base + channel * taps) * wide
            fetch_ahead(self.w, first, taps * wide, layer.target)
            for tap, column in reads:
                position = layer.window.position(tile.start, column, tap, tile.border)
                if position is not None:
                    value = self.x[(pixel + position) * layer.block + channel]
                    self._multiply_add(sums, tile, column, value, base + channel * taps + tap)

    def _held(self, sums: tirx.Var, tile: Tile, pixel: Expr, base: Expr, channels: int) -> None:
        """Inputs are read in vectors along the row; the multiply-add picks the lane."""
        layer = self.layer
        row = (pixel + layer.window.origin(tile.start, tile.border)) * layer.block
        read = {
            (tap, column): offset * layer.block
            for tap in range(layer.window.kernel[1])
            for column in range(tile.columns)
            if (offset := layer.window.offset(tile.start, column, tap, tile.border)) is not None
        }
        if not read:
            return
        vectors = layer.vectors_read(read.values(), tile.border)
        held = self._loaded(vectors, row)
        for tap, channel in itertools.product(range(layer.window.kernel[1]), range(channels)):
            for column in range(tile.columns):
                if (tap, column) in read:
                    value = held[vectors.place(read[tap, column] + channel)]
                    self._multiply_add(sums, tile, column, value, base + tap * layer.block + channel)

    def _loaded(self, vectors: Cover, row: Expr) -> tirx.Var:
        width = vectors.width
        held = T.alloc_buffer((len(vectors.starts) * width,), self.layer.dtype, scope="local")
        for number, start in enumerate(vectors.starts):
            if width == 1:
                T.buffer_store(held, self.x[row + start], [number])
                continue
            with T.vectorized(width) as lane:
                T.buffer_store(held, self.x[row + start + lane], [number * width + lane])
        return held

    def _multiply_add(self, sums: tirx.Var, tile: Tile, column: int, value: Expr, step: Expr) -> None:
        """Multiply an input with the weights of one step of the reduction."""
        lanes = self.layer.lanes
        for vector in range(tile.vectors):
            with T.vectorized(lanes) as lane:
                place = (column * tile.vectors + vector) * lanes + lane
                weight = self.w[self.weights + (step * self.vectors + vector) * lanes + lane]
                T.buffer_store(sums, sums[place] + value * weight, [place])

    def _store(self, sums: tirx.Var, tile: Tile) -> None:
        lanes = self.layer.lanes
        if self.epilogue.is_long:
            sums = copied(sums, tile.columns * tile.vectors, lanes)
        for vector in range(tile.vectors):
            for column in each(tile.columns, looped=self.epilogue.is_long):
                with column as place, T.vectorized(lanes) as lane:
                    pixel = self.layer.window.pixel(tile.row, tile.start + place)
                    accumulator = sums[(place * tile.vectors + vector) * lanes + lane]
                    self.epilogue.store(accumulator, (tile.image, tile.first + vector, *pixel, lane))

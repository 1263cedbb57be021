"""The kernel of a convolution of bytes, written out tile by tile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot import Pointer, Sums, Words
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    copied,
    each,
    element_type,
    only_if,
    repeated,
    settled,
    spread,
)
from graphopt.targets.schedules.templates.prefetch import NextWeights, fetch_ahead
from graphopt.targets.schedules.templates.starts import BLOCK
from graphopt.targets.schedules.templates.tiled_image import Tile, TiledImage

if TYPE_CHECKING:
    from graphopt.targets.schedules.templates.integer_convolution import IntegerConvolution


class IntegerKernel(TiledImage):
    """Writes one kernel, whose weights and starts begin at these elements of their buffers."""

    def __init__(
        self, layer: IntegerConvolution, decision: Mapping[str, int], weights: int = 0, starts: int = 0
    ) -> None:
        batch = layer.anchor.output.static_shape[0]
        sizes = batch, layer.groups, layer.blocks, layer.vectors
        super().__init__(layer.window, *sizes, decision["columns"], decision["vectors"])
        self.layer = layer
        self.dot = layer.dot
        self.step = self.vectors * self.dot.step_bytes
        self.first_weight = weights
        self.first_start = starts
        self.next = self._next_weights()

    def function(self) -> tirx.PrimFunc:
        return build_kernel(self.layer.body, self.emit, self.sizes())

    def sizes(self) -> dict[int, int]:
        """Elements of the packed operands, by number."""
        layer = self.layer
        numbers = {value: number for number, value in enumerate(layer.body.inputs)}
        weights, before = layer.anchor.inputs[1], 0
        assert weights is not None
        if layer.starts_beside_weights:
            before = layer.starts.count * self._filters * 32 // weights.dtype.bits
        sizes = {numbers[weights]: before + self._elements + self._beside}
        bias = layer.anchor.input(2)
        if bias is not None:
            sizes[numbers[bias]] = layer.starts.count * self._filters
        return sizes

    @property
    def _elements(self) -> int:
        """Of the weights of all channels."""
        taps = self.layer.kernel[0] * self.layer.kernel[1]
        return self.groups * self.tiles * self.blocks * taps * self.layer.steps * self.step

    @property
    def _beside(self) -> int:
        """What all channels have beside their weights, which lies behind these."""
        return self.groups * self.tiles * self.vectors * self.dot.lanes * self.dot.least_bytes

    @property
    def _filters(self) -> int:
        """Numbers of one start."""
        return self.groups * self.channel_vectors * self.dot.lanes

    def emit(self, buffers: Buffers, readable: tirx.Var | None = None) -> None:
        """Write the kernel; the image is `readable` already where that is given."""
        layer = self.layer
        x, w, *rest = layer.anchor.inputs
        assert x is not None and w is not None
        self.weights = Pointer(buffers[w], self.first_weight)
        self.starts: Pointer | None = None
        if rest and rest[0] is not None:
            self.starts = Pointer(buffers[rest[0]], self.first_start)
        elif layer.starts_beside_weights:
            self.starts = Words(buffers[w], self.first_weight)
            self.weights = Pointer(buffers[w], (self.starts + layer.starts.count * self._filters).offset)
        self.least = self.weights + self._elements
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        self.x = self._readable(buffers[x]) if readable is None else readable
        self.walk(layer.filters * layer.channels * layer.window.taps)

    def _readable(self, x: tirx.Var) -> tirx.Var:
        """The image in the type that is multiplied."""
        dtype = self.dot.read_as(element_type(x))
        if dtype == element_type(x):
            return x
        height, width = self.window.image
        row = width * self.layer.block
        rows = self.batch * self.groups * self.blocks * height
        wide = T.alloc_buffer((rows * row,), dtype)
        with (
            spread(rows, rows * row) as number,
            T.serial(width) as pixel,
            T.vectorized(self.layer.block) as lane,
        ):
            place = number * row + pixel * self.layer.block + lane
            T.buffer_store(wide, x[place].astype(dtype), [place])
        return wide

    def write_tile(self, tile: Tile) -> None:
        sums = self.dot.begin(tile.columns, tile.vectors, self._start(tile, None)).above(self._least(tile))
        self.visit = self._visit(tile)
        self._reduce(sums, tile)
        self._store(self.dot.results(sums), tile)

    def _start(self, tile: Tile, column: int | None) -> Pointer | None:
        """What sums of a column start with; None: of one whose taps are all inside."""
        if self.starts is None:
            return None
        number = self.layer.starts.number(tile.row, column)
        return self.starts + (number * self._filters + tile.first * self.dot.lanes)

    def _least(self, tile: Tile) -> Pointer:
        """What the channels of a tile have beside their weights."""
        wide = self.vectors * self.dot.lanes * self.dot.least_bytes
        return self.least + tile.part * wide

    # --- the sums ---

    def _reduce(self, sums: Sums, tile: Tile) -> None:
        """Block of channels by block; the last one may be filled in part."""
        whole, rest = divmod(self.layer.channels, self.layer.block)
        if whole:
            with repeated(whole) as block:
                self._rows(sums, tile, block, self.layer.steps)
        if rest:
            self._rows(sums, tile, whole, -(-rest // self.dot.depth))

    def _rows(self, sums: Sums, tile: Tile, block: Expr | int, steps: int) -> None:
        """Add the first `steps` of a block: all taps of all rows that lie inside the image."""
        layer, window = self.layer, self.window
        with repeated(window.kernel[0]) as tap:
            line = window.line(tile.row, tap)
            with only_if(window.line_exists(line)):
                pixel = ((tile.source + block) * window.image[0] + line) * window.image[1]
                first = ((tile.part * self.blocks + block) * window.kernel[0] + tap) * window.kernel[1]
                self._fetch_next(first * layer.steps)
                for across, places in self._taps(tile):
                    columns = [
                        None if place is None else Pointer(self.x, (pixel + place) * layer.block)
                        for place in places
                    ]
                    self._steps(sums, columns, (first + across) * layer.steps, steps)

    def _taps(self, tile: Tile) -> Iterator[tuple[Expr | int, list[Expr | None]]]:
        """The taps along a row, each with what it reads of the row for each column.

        Where inputs are operands from memory the taps are a loop: written out, the compiler would load what several of
        them read once, and spill the sums.
        """
        window, columns = self.window, range(tile.columns)
        if self.layer.target.memory_operands and not tile.border and window.kernel[1] > 1:
            with T.serial(window.kernel[1]) as across:
                origin = window.origin(tile.start, False) + across * window.dilations[1]
                yield across, [origin + column * window.strides[1] for column in columns]
            return
        for tap in range(window.kernel[1]):
            places = [window.position(tile.start, column, tap, tile.border) for column in columns]
            if any(place is not None for place in places):
                yield tap, places

    def _steps(self, sums: Sums, columns: list[Pointer | None], first: Expr, steps: int) -> None:
        for step in each(steps, looped=self.layer.target.memory_operands):
            with step as number:
                weights = self.weights + (first + number) * self.step
                fetch_ahead(weights.buffer, weights.offset, self.step, self.layer.target)
                inputs = [None if x is None else x + number * self.dot.depth for x in columns]
                self.dot.step(sums, inputs, weights)

    # --- the weights of the next tile ---

    def _next_weights(self) -> NextWeights | None:
        layer = self.layer
        weights = layer.anchor.inputs[1]
        assert weights is not None
        elements = self.blocks * layer.kernel[0] * layer.kernel[1] * layer.steps * self.step
        visits = self.window.result[0] * self._pieces
        return NextWeights.of(elements, weights.dtype.bits // 8, self.tiles, visits, layer.target)

    @property
    def _pieces(self) -> int:
        """Tiles of a row of outputs."""
        return -(-self.window.result[1] // self.columns)

    def _visit(self, tile: Tile) -> Expr | None:
        """How many tiles had the same weights before; None: nothing needs it."""
        if self.next is None:
            return None
        return settled(tile.row * self._pieces + tirx.const(0, "int32") + tile.start // self.columns)

    def _fetch_next(self, first: Expr) -> None:
        """In front of a row of taps, whose weights begin with step number `first`."""
        if self.next is not None and self.visit is not None:
            elements = self.window.kernel[1] * self.layer.steps * self.step
            self.next.fetch(self.weights + first * self.step, elements, self.visit)

    # --- the results ---

    def _store(self, results: tirx.Var, tile: Tile) -> None:
        """Whole blocks of channels at once, or as much of one as a tile has."""
        lanes = self.dot.lanes
        width = math.gcd(tile.vectors * lanes, self.vectors * lanes, BLOCK)
        corrected = self._corrected(results, tile)
        if self.epilogue.is_long:
            corrected = copied(corrected, tile.columns * tile.vectors, lanes)
        for part in range(0, tile.vectors * lanes, width):
            for column in each(tile.columns, looped=self.epilogue.is_long):
                with column as place, T.vectorized(width) as lane:
                    pixel = self.window.pixel(tile.row, tile.start + place)
                    channel = tile.first * lanes + part
                    block, within = tirx.indexdiv(channel, BLOCK), tirx.indexmod(channel, BLOCK)
                    accumulator = corrected[place * (tile.vectors * lanes) + part + lane]
                    self.epilogue.store(accumulator, (tile.image, block, *pixel, within + lane))

    def _corrected(self, results: tirx.Var, tile: Tile) -> tirx.Var:
        """At a border some columns should have started from another number."""
        starts, whole = self.layer.starts, self._start(tile, None)
        if not tile.border or whole is None:
            return results
        for column in range(tile.columns):
            number = int(tile.start) + column
            if starts.is_whole(number):
                continue
            own = self._start(tile, number)
            assert own is not None
            for vector in range(tile.vectors):
                place = Pointer(results, (column * tile.vectors + vector) * self.dot.lanes)
                there = vector * self.dot.lanes
                change = (own + there).load(self.dot.lanes) - (whole + there).load(self.dot.lanes)
                place.store(place.load(self.dot.lanes) + change)
        return results

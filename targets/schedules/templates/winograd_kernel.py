"""The kernel of a Winograd convolution.

Tiles are taken in chunks whose transformed inputs stay in the cache. For each panel of filters the products of all
places follow, and then the output transform, with the epilogue in registers. A chunk is made of groups of as many tiles
as the product has columns in registers. Threads share the chunks out, each with a workspace of its own; or, where there
are few chunks, first the channels of a chunk and then its panels. Source: Jia et al., "Optimizing N-dimensional,
Winograd-based convolution for manycore CPUs", 2018.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.arithmetic import like
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    either,
    only_if,
    shared_out,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.prefetch import fetch_ahead
from graphopt.targets.schedules.templates.sums import steps_at_once
from graphopt.targets.schedules.templates.tile import Row, Segment
from graphopt.targets.schedules.templates.window import Window
from graphopt.targets.schedules.templates.winograd_transform import Transform

Stages = tuple[np.ndarray, np.ndarray]

LONGEST_TRANSFORMED = 64
"""Products that are added up one by one in float16: the output transform amplifies what they are off by."""


@dataclass(frozen=True)
class Layer:
    """What is computed: `channels`, and `vectors` of `lanes` filters."""

    body: Graph
    anchor: Node
    window: Window
    channels: int
    vectors: int
    lanes: int

    @property
    def blocks(self) -> int:
        return -(-self.channels // self.lanes)


@dataclass(frozen=True)
class _Places:
    """A workspace for each strand: at every place of the tiles `vectors` vectors."""

    buffer: tirx.Var
    places: int
    vectors: int
    lanes: int

    @classmethod
    def of(cls, strands: int, places: int, vectors: int, lanes: int, dtype: str) -> _Places:
        """Places lie an odd number of vectors apart, lest they fall into the same few sets of the cache."""
        odd = vectors | 1
        return cls(T.alloc_buffer((strands * places * odd * lanes,), dtype), places, odd, lanes)

    def index(self, strand: Expr, place: Expr, vector: Expr, lane: Expr) -> Expr:
        return ((strand * self.places + place) * self.vectors + vector) * self.lanes + lane


@dataclass(frozen=True)
class _Chunk:
    """`groups` groups of tiles from number `first` on, and the strand that computes them."""

    first: Expr
    groups: Expr
    strand: Expr


@dataclass(frozen=True)
class Tile:
    """Row and column of a tile in an image; at a `border` the column is a number."""

    image: Expr
    row: Expr
    column: Expr
    border: bool


class WinogradKernel:
    """Writes one kernel; `grid` is images, rows and columns of tiles."""

    AXES = 2
    """Of a tile."""

    def __init__(
        self,
        layer: Layer,
        transform: Transform,
        grid: tuple[int, int, int],
        decision: Mapping[str, int],
        target: Target,
        buffers: Buffers,
    ) -> None:
        self.dtype = layer.anchor.output.dtype.label
        self.layer, self.grid, self.target = layer, grid, target
        self.transform = transform
        self.places = transform.inputs**self.AXES
        self.shrunk_input, self.grown_output = self._scaled_stages()
        self.columns, self.vectors = decision["columns"], decision["vectors"]
        self.hold = bool(decision["hold"])
        self.tiles = int(np.prod(grid))
        self.groups = -(-self.tiles // self.columns)
        self.chunk = min(decision["groups"], self.groups)
        self.chunks = -(-self.groups // self.chunk)
        self.panels = -(-layer.vectors // self.vectors)
        x, w, *rest = layer.anchor.inputs
        assert x is not None and w is not None
        self.x, self.w = buffers[x], buffers[w]
        self.bias = buffers[rest[0]] if rest and rest[0] is not None else None
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        m, size, window = self.transform.outputs, self.transform.inputs, layer.window
        self.rows_in, self.columns_in = (
            Row(grid[1 + axis], window.image[axis], size, self.transform.step, 1, window.pads[axis])
            for axis in range(2)
        )
        self.columns_out = Row(grid[2], window.result[1], m, m)

    def _scaled_stages(self) -> tuple[Stages, Stages]:
        """For one axis, which float16 needs: what the input transform makes larger is made smaller by a power of two
        before it is, and larger again where the sums are transformed."""
        grown = self.transform.growth**self.AXES
        scale = 2.0 ** math.floor(math.log2(grown)) if self.dtype == "float16" else 1.0
        (before, after), (inner, outer) = self.transform.input_stages, self.transform.output_stages
        return (before / scale, after), (inner, outer * scale)

    # --- the order of the work ---

    def emit(self) -> None:
        by_chunks = self.chunks >= 2 * self.target.cores
        work = self.tiles * self.places * self.layer.channels * self.layer.vectors * self.layer.lanes
        strands = min(self.target.cores, self.chunks if by_chunks else self.panels)
        inputs = self.chunk * self.layer.blocks * self.columns
        products = self.chunk * self.columns * self.vectors
        self.v = _Places.of(strands if by_chunks else 1, self.places, inputs, self.layer.lanes, self.dtype)
        self.m = _Places.of(strands, self.places, products, self.layer.lanes, self.dtype)
        if by_chunks:
            with shared_out(self.chunks, strands, work) as (strand, number):
                chunk = self._chunk(number, strand)
                with T.serial(chunk.groups) as group, T.serial(self.layer.blocks) as block:
                    self._transform_inputs(chunk, group, block)
                with T.serial(self.panels) as panel:
                    self._filters(chunk, strand, panel)
            return
        with T.serial(self.chunks) as number:
            chunk = self._chunk(number, tirx.const(0, "int32"))
            with spread(self.chunk * self.layer.blocks, work) as task:
                group, block = taken_apart(task, self.chunk, self.layer.blocks)
                with only_if(group < chunk.groups if self.groups % self.chunk else None):
                    self._transform_inputs(chunk, group, block)
            with shared_out(self.panels, strands, work) as (strand, panel):
                self._filters(chunk, strand, panel)

    def _chunk(self, number: Expr, strand: Expr) -> _Chunk:
        first = number * self.chunk
        return _Chunk(first, tirx.min(self.chunk, self.groups - first), strand)

    def _tiles_of(self, group: Expr) -> Expr:
        return tirx.min(self.columns, self.tiles - group * self.columns)

    def _at(self, group: Expr, column: Expr, row: Row, emit: Callable[[Tile], None]) -> None:
        """Statements for a tile; it is told by run-time tests which border of the `row` of tiles it is at."""
        image, down, across = taken_apart(group * self.columns + column, *self.grid)

        def among(segments: Sequence[Segment]) -> None:
            segment, *others = segments
            here = tirx.const(segment.start, "int32") if segment.border else across
            either(
                across < segment.start + segment.count if others else None,
                lambda: emit(Tile(image, down, here, segment.border)),
                lambda: among(others),
            )

        among(row.segments(1))

    # --- input transform ---

    def _transform_inputs(self, chunk: _Chunk, group: Expr, block: Expr) -> None:
        """A group of tiles, a block of channels."""
        with T.serial(self._tiles_of(chunk.first + group)) as column:
            vector = (group * self.layer.blocks + block) * self.columns + column
            self._at(
                chunk.first + group,
                column,
                self.columns_in,
                lambda tile: self.transform_input(tile, block, chunk.strand, vector),
            )

    def transform_input(self, tile: Tile, block: Expr, strand: Expr, vector: Expr) -> None:
        size, lanes = self.transform.inputs, self.layer.lanes
        height = self.layer.window.image[0]
        rows = [T.alloc_buffer((size * lanes,), self.dtype, scope="local") for _ in range(size)]
        for number, row in enumerate(rows):
            line = tile.row * self.transform.step + (number - self.rows_in.pad)
            above = self.rows_in.position(0, number) < 0
            below = self.rows_in.position(self.rows_in.outputs - 1, number) >= height
            exists = tirx.all(line >= 0, line < height) if above or below else None
            fill = functools.partial(self._transform_line, row, tile, block, line)
            either(exists, fill, functools.partial(self._clear, row))
        for j in range(size):
            with T.vectorized(lanes) as lane:
                column = [row[j * lanes + lane] for row in rows]
                for i, value in enumerate(applied(self.transform.input_stages, column, self.dtype)):
                    T.buffer_store(self.v.buffer, value, [self.v.index(strand, i * size + j, vector, lane)])

    def _transform_line(self, row: tirx.Var, tile: Tile, block: Expr, line: Expr) -> None:
        lanes, (height, width) = self.layer.lanes, self.layer.window.image
        pixel = ((tile.image * self.layer.blocks + block) * height + line) * width
        with T.vectorized(lanes) as lane:
            values: list[Expr | None] = []
            for tap in range(self.transform.inputs):
                position = self.columns_in.position(tile.column, tap)
                outside = tile.border and not 0 <= int(position) < width
                values.append(None if outside else self.x[(pixel + position) * lanes + lane])
            for j, value in enumerate(applied(self.shrunk_input, values, self.dtype)):
                T.buffer_store(row, value, [j * lanes + lane])

    def _clear(self, row: tirx.Var) -> None:
        for j in range(self.transform.inputs):
            with T.vectorized(self.layer.lanes) as lane:
                T.buffer_store(row, tirx.const(0.0, self.dtype), [j * self.layer.lanes + lane])

    # --- products ---

    def _filters(self, chunk: _Chunk, strand: Expr, panel: Expr) -> None:
        """A panel of filters; the last one may have fewer vectors."""
        rest = self.layer.vectors % self.vectors
        either(
            panel < self.panels - 1 if rest and self.panels > 1 else None,
            lambda: self._panel(chunk, strand, panel, self.vectors if self.panels > 1 or not rest else rest),
            lambda: self._panel(chunk, strand, panel, rest),
        )

    def _panel(self, chunk: _Chunk, strand: Expr, panel: Expr, vectors: int) -> None:
        rest = self.tiles % self.columns
        with T.serial(self.places) as place, T.serial(chunk.groups) as group:
            sums = lambda columns: self._product(chunk, strand, panel, place, group, columns, vectors)  # noqa: E731
            either(
                chunk.first + group < self.groups - 1 if rest and self.groups > 1 else None,
                lambda: sums(self.columns if self.groups > 1 or not rest else rest),
                lambda: sums(rest),
            )
        with T.serial(chunk.groups) as group, T.serial(self._tiles_of(chunk.first + group) * vectors) as step:
            column, vector = taken_apart(step, self.columns, vectors)
            made = (group * self.columns + column) * self.vectors + vector
            self._at(
                chunk.first + group,
                column,
                self.columns_out,
                lambda tile: self.transform_output(tile, panel * self.vectors + vector, strand, made),
            )

    def _product(
        self, chunk: _Chunk, strand: Expr, panel: Expr, place: Expr, group: Expr, columns: int, vectors: int
    ) -> None:
        """One place of `columns` tiles and `vectors` vectors of filters."""
        layer, lanes = self.layer, self.layer.lanes
        weights = (panel * self.places + place) * layer.channels
        at_once = steps_at_once(self.dtype, layer.blocks, lanes, LONGEST_TRANSFORMED)
        whole, rest = divmod(layer.channels, lanes)

        def add(sums: tirx.Var, block: Expr, channels: int) -> None:
            first = (group * layer.blocks + block) * self.columns
            begin = weights + block * lanes
            if self.hold:
                held = self._held(chunk, place, first, columns)
                for channel in range(channels):
                    values = [held[column * lanes + channel] for column in range(columns)]
                    self._multiply_add(sums, values, begin + channel, vectors)
                return
            with T.serial(channels) as channel:
                values = [
                    self.v.buffer[self.v.index(chunk.strand, place, first + column, channel)]
                    for column in range(columns)
                ]
                fetch_ahead(
                    self.w, (begin + channel) * self.vectors * lanes, self.vectors * lanes, self.target
                )
                self._multiply_add(sums, values, begin + channel, vectors)

        def part(first: Expr, whole: int, rest: int) -> None:
            """The sums over `whole` blocks from `first` on and `rest` channels, added to those of the blocks before."""
            sums = T.alloc_buffer((columns * vectors * lanes,), self.dtype, scope="local")
            for number in range(columns * vectors):
                with T.vectorized(lanes) as lane:
                    T.buffer_store(sums, tirx.const(0.0, self.dtype), [number * lanes + lane])
            if whole:
                with T.serial(whole) as block:
                    add(sums, first + block, lanes)
            if rest:
                add(sums, tirx.const(layer.blocks - 1, "int32"), rest)
            keep = functools.partial(self._keep, sums, strand, place, group * self.columns, columns, vectors)
            is_first = None if at_once >= layer.blocks else tirx.EQ(first, 0)
            either(is_first, lambda: keep(is_first=True), lambda: keep(is_first=False))

        if at_once >= layer.blocks:
            part(tirx.const(0, "int32"), whole, rest)
            return
        with T.serial(whole // at_once) as number:
            part(number * at_once, at_once, 0)
        if whole % at_once or rest:
            part(tirx.const(whole - whole % at_once, "int32"), whole % at_once, rest)

    def _keep(
        self,
        sums: tirx.Var,
        strand: Expr,
        place: Expr,
        first: Expr,
        columns: int,
        vectors: int,
        *,
        is_first: bool,
    ) -> None:
        """Store sums, or add them to what is there."""
        lanes = self.layer.lanes
        for column in range(columns):
            for vector in range(vectors):
                with T.vectorized(lanes) as lane:
                    here = self.m.index(strand, place, (first + column) * self.vectors + vector, lane)
                    value = sums[(column * vectors + vector) * lanes + lane]
                    T.buffer_store(self.m.buffer, value if is_first else self.m.buffer[here] + value, [here])

    def _held(self, chunk: _Chunk, place: Expr, first: Expr, columns: int) -> tirx.Var:
        """Inputs read a vector of channels at a time; the multiply-add picks its lane."""
        lanes = self.layer.lanes
        held = T.alloc_buffer((columns * lanes,), self.dtype, scope="local")
        for column in range(columns):
            with T.vectorized(lanes) as lane:
                value = self.v.buffer[self.v.index(chunk.strand, place, first + column, lane)]
                T.buffer_store(held, value, [column * lanes + lane])
        return held

    def _multiply_add(self, sums: tirx.Var, values: Sequence[Expr], weight: Expr, vectors: int) -> None:
        lanes = self.layer.lanes
        for column, value in enumerate(values):
            for vector in range(vectors):
                with T.vectorized(lanes) as lane:
                    here = (column * vectors + vector) * lanes + lane
                    product = value * self.w[(weight * self.vectors + vector) * lanes + lane]
                    T.buffer_store(sums, sums[here] + product, [here])

    # --- output transform ---

    def transform_output(self, tile: Tile, vector: Expr, strand: Expr, made: Expr) -> None:
        """A tile of one vector of filters; tiles may reach beyond the image."""
        size, lanes, m = self.transform.inputs, self.layer.lanes, self.transform.outputs
        rows = [T.alloc_buffer((size * lanes,), self.dtype, scope="local") for _ in range(m)]
        for j in range(size):
            with T.vectorized(lanes) as lane:
                column = [self.m.buffer[self.m.index(strand, i * size + j, made, lane)] for i in range(size)]
                for row, value in zip(
                    rows, applied(self.transform.output_stages, column, self.dtype), strict=True
                ):
                    T.buffer_store(row, value, [j * lanes + lane])
        height, width = self.layer.window.result
        inside = min(m, width - int(tile.column) * m) if tile.border else m
        for number, row in enumerate(rows):
            line = tile.row * m + number
            with only_if(line < height if 0 < height % m <= number else None):
                self.finish(row, tile, vector, line, inside)

    def finish(self, row: tirx.Var, tile: Tile, vector: Expr, line: Expr, inside: int) -> None:
        """Transform a row, add the bias, apply the epilogue and store what lies inside the image."""
        lanes, m = self.layer.lanes, self.transform.outputs

        def finished(lane: Expr) -> list[Expr]:
            bias = None if self.bias is None else self.bias[vector * lanes + lane]
            values = [row[j * lanes + lane] for j in range(self.transform.inputs)]
            return applied(self.grown_output, values, self.dtype, bias)[:inside]

        def store(value: Expr, column: Expr, lane: Expr) -> None:
            pixel = self.layer.window.pixel(line, tile.column * m + column)
            self.epilogue.store(value, (tile.image, vector, *pixel, lane))

        if not self.epilogue.is_long:
            with T.vectorized(lanes) as lane:
                for column, value in enumerate(finished(lane)):
                    store(value, column, lane)
            return
        copy = T.alloc_buffer((inside * lanes,), self.dtype, scope="local")
        with T.vectorized(lanes) as lane:
            for column, value in enumerate(finished(lane)):
                T.buffer_store(copy, value, [column * lanes + lane])
        with T.serial(inside) as column, T.vectorized(lanes) as lane:
            store(copy[column * lanes + lane], column, lane)


def applied(
    stages: Stages,
    values: Sequence[Expr | None],
    dtype: str,
    begin: Expr | None = None,
) -> list[Expr]:
    """Both stages applied to `values` of `dtype`, None being zero; `begin` is added to every result."""
    first, second = stages
    between = [_combined(row, values, None) for row in first]
    made = [_combined(row, between, begin) for row in second]
    return [tirx.const(0.0, dtype) if value is None else value for value in made]


def _combined(row: np.ndarray, values: Sequence[Expr | None], begin: Expr | None) -> Expr | None:
    """`begin` and all row[k] values[k]: every product but a first one is a multiply-add."""
    terms = [(float(c), v) for c, v in zip(row, values, strict=True) if c and v is not None]
    terms.sort(key=lambda term: term[0] != 1)
    total = begin
    for factor, value in terms:
        if total is None:
            total = value if factor == 1 else value * like(factor, value)
        elif factor in (1, -1):
            total = total + value if factor == 1 else total - value
        else:
            total = total + value * like(factor, value)
    return total if total is None or len(terms) + (begin is not None) == 1 else T.bind(total)

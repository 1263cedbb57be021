"""Direct convolution on blocked images.

Neighbouring output channels lie in the lanes of a register; a tile of columns and channel vectors stays in registers
over the whole reduction. The input is never padded: rows outside are skipped at run time, taps outside at build time,
for the tiles at a border are unrolled on their own. A 1x1 convolution takes the image as one long row. Source:
Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", 2018.
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
from graphopt.targets.schedules.templates.epilogue import Epilogue, fits, reads_by_pixel
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    copied,
    each,
    only_if,
    repeated,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.tile import Segment, best_tile
from graphopt.targets.schedules.templates.window import Window, window_of_image

MOST_TAPS = 11
"""Taps along a row that are unrolled at most."""

TAPS_KEPT = 1 / 4
"""Of the registers: the weights of up to so many taps along a row are kept at once. Then each input is loaded once,
for all the outputs that read it. Written tap by tap, the compiler shares those loads by itself and spills the sums."""


@dataclass(frozen=True)
class DirectConvolution:
    """A convolution whose output is in blocks; the input is plain or in blocks of any size."""

    body: Graph
    anchor: Node
    target: Target
    window: Window
    groups: int
    channels: int
    block: int
    filters: int
    lanes: int
    name: str = "direct-convolution"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> DirectConvolution | None:
        anchors = [node for node in body.nodes if node.is_op("Conv", domain=KERNEL)]
        if len(anchors) != 1 or not fits(body, anchors[0]):
            return None
        (anchor,) = anchors
        x = anchor.input(0)
        made = blocked_of(anchor.output.type)
        kernel = anchor.ints("kernel_shape")
        assert x is not None and x.type is not None and made is not None and kernel is not None
        read = blocked_of(x.type)
        groups = anchor.int("group", 1)
        channels = read.channels if read else x.static_shape[1]
        if groups == channels == made.channels and groups > 1:
            return None  # depthwise
        if any(v is not None and v.producer is not None for v in anchor.inputs) or kernel[-1] > MOST_TAPS:
            return None
        image = x.static_shape[2:-1] if read else x.static_shape[2:]
        window = window_of_image(anchor, image, kernel)
        if window.is_pointwise and not reads_by_pixel(body, anchor, range(2, anchor.output.rank - 1)):  # type: ignore[operator]
            window = window.flat()
        block = read.block if read else 1
        return cls(
            body,
            anchor,
            target,
            window,
            groups,
            channels // groups,
            block,
            made.channels // groups,
            made.block,
        )

    # --- decisions ---

    @property
    def vectors(self) -> int:
        """Vectors of output channels in a group."""
        return -(-self.filters // self.lanes)

    @property
    def can_hold(self) -> bool:
        """The inputs of a column can be read as one vector of channels."""
        return self.block == self.lanes and self.target.multiplies_by_lane

    @property
    def taps_kept(self) -> int:
        """Taps whose weights are in registers at once, unless inputs are."""
        taps = self.window.kernel[1]
        return taps if taps <= TAPS_KEPT * self.target.vector_registers else 1

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "columns": range(1, min(self.window.result[1], registers) + 1),
            "vectors": [v for v in range(1, 9) if self.groups == 1 or self.vectors % v == 0],
            "hold": (0, 1) if self.can_hold else (0,),
        }

    def defaults(self) -> Mapping[str, int]:
        hold = int(self.can_hold)
        columns, vectors = best_tile(
            self.window.result[1],
            self.vectors,
            self.target,
            hold=bool(hold),
            weights=1 if hold else self.taps_kept,
        )
        return {"columns": columns, "vectors": vectors, "hold": hold}

    # --- weights ---

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Weights as [group, tile, block of channels, row tap, (lane, column tap), vectors * lanes]."""
        numbers = {value: number for number, value in enumerate(self.body.inputs)}
        weights = numbers[self.anchor.inputs[1]]  # type: ignore[index]
        packed = {weights: self._pack_weights(constants[weights], decision)}
        bias = self.anchor.input(2)
        if bias is not None:
            padded = np.zeros((self.groups, self.vectors * self.lanes), np.float32)
            padded[:, : self.filters] = constants[numbers[bias]].reshape(self.groups, self.filters)
            packed[numbers[bias]] = padded.reshape(-1)
        return packed

    def _pack_weights(self, weights: np.ndarray, decision: Mapping[str, int]) -> np.ndarray:
        wide = decision["vectors"] * self.lanes
        tiles = -(-self.vectors // decision["vectors"])
        blocks = -(-self.channels // self.block)
        kernel = self.window.kernel
        full = np.zeros((self.groups, tiles * wide, blocks * self.block, *kernel), np.float32)
        shape = (self.groups, self.filters, self.channels, *kernel)
        full[:, : self.filters, : self.channels] = weights.reshape(shape)
        split = full.reshape(self.groups, tiles, wide, blocks, self.block, *kernel)
        inner = (6, 4) if decision["hold"] else (4, 6)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 5, *inner, 2)).reshape(-1)

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return _Emission(self, decision).function()


class _Emission:
    """Writes one kernel."""

    def __init__(self, layer: DirectConvolution, decision: Mapping[str, int]) -> None:
        self.layer = layer
        self.columns = decision["columns"]
        self.vectors = decision["vectors"]
        self.hold = bool(decision["hold"])
        self.batch = layer.anchor.output.static_shape[0]
        self.blocks = -(-layer.channels // layer.block)
        self.tiles = -(-layer.vectors // self.vectors)

    def function(self) -> tirx.PrimFunc:
        layer = self.layer
        numbers = {value: number for number, value in enumerate(layer.body.inputs)}
        wide = self.vectors * layer.lanes
        weights = layer.groups * self.tiles * wide * self.blocks * layer.block * layer.window.taps
        sizes = {numbers[layer.anchor.inputs[1]]: weights}  # type: ignore[index]
        bias = layer.anchor.input(2)
        if bias is not None:
            sizes[numbers[bias]] = layer.groups * layer.vectors * layer.lanes
        return build_kernel(layer.body, self.emit, sizes)

    def emit(self, buffers: Buffers) -> None:
        layer = self.layer
        x, w, *rest = layer.anchor.inputs
        assert x is not None and w is not None
        self.x, self.w = buffers[x], buffers[w]
        self.bias = buffers[rest[0]] if rest and rest[0] is not None else None
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        rows = layer.window.result[0]
        work = self.batch * layer.groups * layer.filters * layer.channels
        work *= rows * layer.window.result[1] * layer.window.taps
        segments = layer.window.row.segments(self.columns)
        if rows == 1:
            count = sum(segment.count for segment in segments)
            with spread(self.batch * layer.groups * self.tiles * count, work) as task:
                image, group, tile, piece = taken_apart(task, self.batch, layer.groups, self.tiles, count)
                self._piece(image, group, tile, piece, segments)
            return
        with spread(self.batch * layer.groups * self.tiles * rows, work) as task:
            image, group, tile, row = taken_apart(task, self.batch, layer.groups, self.tiles, rows)
            for segment in segments:
                with repeated(segment.count) as piece:
                    start = segment.start + piece * segment.columns
                    self._tiles(image, group, tile, row, start, segment.columns, segment.border)

    def _piece(self, image: Expr, group: Expr, tile: Expr, piece: Expr, segments: Sequence[Segment]) -> None:
        """Tile number `piece` of a single row."""
        first, *others = segments
        start = first.start if first.border else first.start + piece * first.columns

        def tiles() -> None:
            self._tiles(image, group, tile, 0, start, first.columns, first.border)

        if not others:
            tiles()
            return
        with T.If(piece < first.count):
            with T.Then():
                tiles()
            with T.Else():
                self._piece(image, group, tile, piece - first.count, others)

    def _tiles(
        self, image: Expr, group: Expr, tile: Expr, row: Expr, start: Expr, columns: int, border: bool
    ) -> None:
        """One tile; the last of a row of tiles may have fewer vectors."""
        rest = self.layer.vectors % self.vectors
        if rest and self.tiles > 1:
            with T.If(tile < self.tiles - 1):
                with T.Then():
                    self._tile(image, group, tile, row, start, columns, border, self.vectors)
                with T.Else():
                    self._tile(image, group, tile, row, start, columns, border, rest)
        else:
            self._tile(image, group, tile, row, start, columns, border, rest or self.vectors)

    def _tile(
        self,
        image: Expr,
        group: Expr,
        tile: Expr,
        row: Expr,
        start: Expr,
        columns: int,
        border: bool,
        vectors: int,
    ) -> None:
        layer, lanes = self.layer, self.layer.lanes
        first = group * layer.vectors + tile * self.vectors
        sums = T.alloc_buffer((columns * vectors * lanes,), "float32", scope="local")
        for column in range(columns):
            for vector in range(vectors):
                with T.vectorized(lanes) as lane:
                    begin = tirx.const(0.0, "float32")
                    if self.bias is not None:
                        begin = self.bias[(first + vector) * lanes + lane]
                    T.buffer_store(sums, begin, [(column * vectors + vector) * lanes + lane])
        part = group * self.tiles + tile
        whole, rest = divmod(layer.channels, layer.block)
        source = image * (self.blocks * layer.groups) + group * self.blocks

        def taps(block: Expr, channels: int) -> None:
            self._rows(sums, source, part, block, channels, row, start, columns, border, vectors)

        if whole:
            with T.serial(whole) as block:
                taps(block, layer.block)
        if rest:
            taps(tirx.const(whole, "int32"), rest)
        self._store(sums, image, first, row, start, columns, vectors)

    def _rows(
        self,
        sums: tirx.Var,
        source: Expr,
        part: Expr,
        block: Expr,
        channels: int,
        row: Expr,
        start: Expr,
        columns: int,
        border: bool,
        vectors: int,
    ) -> None:
        """Add a block of channels: all taps of all rows that lie inside the image."""
        layer, window = self.layer, self.layer.window
        height, width = window.image
        with T.serial(window.kernel[0]) as tap:
            line = window.line(row, tap)
            with only_if(window.line_exists(line)):
                pixel = ((source + block) * height + line) * width
                base = (
                    ((part * self.blocks + block) * window.kernel[0] + tap) * layer.block * window.kernel[1]
                )
                if self.hold:
                    self._held(sums, pixel, base, channels, start, columns, border, vectors)
                else:
                    self._streamed(sums, pixel, base, channels, start, columns, border, vectors)

    def _streamed(
        self,
        sums: tirx.Var,
        pixel: Expr,
        base: Expr,
        channels: int,
        start: Expr,
        columns: int,
        border: bool,
        vectors: int,
    ) -> None:
        """Inputs are read one by one, from left to right where the taps' weights are kept, and broadcast."""
        layer = self.layer
        reads = [(tap, column) for tap in range(layer.window.kernel[1]) for column in range(columns)]
        if layer.taps_kept > 1:
            reads.sort(key=lambda read: layer.window.row.position(read[1], read[0]))
        with T.serial(channels) as channel:
            for tap, column in reads:
                position = layer.window.position(start, column, tap, border)
                if position is None:
                    continue
                weights = (base + channel * layer.window.kernel[1] + tap) * self.vectors * layer.lanes
                value = self.x[(pixel + position) * layer.block + channel]
                self._multiply_add(sums, column, vectors, value, weights)

    def _held(
        self,
        sums: tirx.Var,
        pixel: Expr,
        base: Expr,
        channels: int,
        start: Expr,
        columns: int,
        border: bool,
        vectors: int,
    ) -> None:
        """Inputs are read a vector of channels at a time; the multiply-add picks its lane."""
        layer = self.layer
        for tap in range(layer.window.kernel[1]):
            held = T.alloc_buffer((columns * layer.block,), "float32", scope="local")
            inside = {}
            for column in range(columns):
                position = layer.window.position(start, column, tap, border)
                if position is None:
                    continue
                inside[column] = position
                with T.vectorized(layer.block) as lane:
                    value = self.x[(pixel + position) * layer.block + lane]
                    T.buffer_store(held, value, [column * layer.block + lane])
            for channel in range(channels):
                weights = (base + tap * layer.block + channel) * self.vectors * layer.lanes
                for column in inside:
                    value = held[column * layer.block + channel]
                    self._multiply_add(sums, column, vectors, value, weights)

    def _multiply_add(self, sums: tirx.Var, column: int, vectors: int, value: Expr, weights: Expr) -> None:
        lanes = self.layer.lanes
        for vector in range(vectors):
            with T.vectorized(lanes) as lane:
                place = (column * vectors + vector) * lanes + lane
                product = value * self.w[weights + vector * lanes + lane]
                T.buffer_store(sums, sums[place] + product, [place])

    def _store(
        self, sums: tirx.Var, image: Expr, first: Expr, row: Expr, start: Expr, columns: int, vectors: int
    ) -> None:
        lanes = self.layer.lanes
        if self.epilogue.is_long:
            sums = copied(sums, columns * vectors, lanes)
        for vector in range(vectors):
            for column in each(columns, looped=self.epilogue.is_long):
                with column as place, T.vectorized(lanes) as lane:
                    pixel = self.layer.window.pixel(row, start + place)
                    accumulator = sums[(place * vectors + vector) * lanes + lane]
                    self.epilogue.store(accumulator, (image, first + vector, *pixel, lane))

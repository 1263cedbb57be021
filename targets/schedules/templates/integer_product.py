"""Products of bytes with constant weights: MatMul of `graphopt.quant`.

    y[m, n] = sum over k of (a[m, k] - zero) b[k, n] + bias[n]
            = sum over k of a[m, k] b[k, n] + (bias[n] - zero * sum over k of b[k, n])

The weights are packed in panels as wide as a tile, each behind the int32 numbers that its sums start from. `a` is read
as it lies where the dot product takes its bytes, and its rows end with a step; otherwise it is copied first: widened,
moved by 128 to the other sign, or filled up with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import QUANT, DType, Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot import Dot, Pointer, Words, fitting_dots, tile_of
from graphopt.targets.schedules.templates.epilogue import Epilogue, fits
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, copied, each, spread
from graphopt.targets.schedules.templates.panels import PanelKernel

OPERANDS = (DType.int8, DType.uint8, DType.int16, DType.int32)

OTHER_SIGN = {"int8": ("uint8", 128), "uint8": ("int8", -128)}
"""The type that holds the same numbers when so much is added."""

RUN = 16
"""Bytes of a row that are read at once at most."""

COPIED_AT_ONCE = 16
STORED_AT_ONCE = 16

NARROWEST_STORE = 8
MOST_VECTORS = 8

COPIED_FOR_A_PRODUCT = 8
"""Elements that are copied in the time of so many products."""


@dataclass(frozen=True)
class Reading:
    """A dot product, and what is added to its inputs before, by a copy."""

    dot: Dot
    shift: int


@dataclass(frozen=True)
class IntegerProduct:
    """`rows` x `depth` bytes times constant `depth` x `width`; leading axes of `a` are rows too."""

    body: Graph
    anchor: Node
    target: Target
    rows: int
    depth: int
    width: int
    readings: tuple[Reading, ...]
    name: str = "integer-product"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> IntegerProduct | None:
        anchors = [node for node in body.nodes if node.is_op("MatMul", domain=QUANT)]
        if len(anchors) != 1 or not fits(body, anchors[0], (DType.int32,), operands=OPERANDS):
            return None
        (anchor,) = anchors
        a, b, bias = anchor.input(0), anchor.input(1), anchor.input(2)
        assert a is not None and b is not None
        known = {body.inputs[number] for number in constants}
        if b not in known or b.rank != 2 or a.producer is not None or (a.rank or 0) < 2:
            return None
        if a.dtype.label not in OTHER_SIGN or (bias is not None and bias not in known):
            return None
        depth, width = b.static_shape
        rows = math.prod(a.static_shape[:-1])
        if not (rows and depth and width):
            return None
        weights = constants[body.inputs.index(b)]
        return cls(body, anchor, target, rows, depth, width, _readings(target, a.dtype.label, weights))

    # --- decisions ---

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "dot": range(len(self.readings)),
            "columns": range(1, min(self.rows, registers) + 1),
            "vectors": range(1, registers + 1),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        known = like is not None and like["dot"] < len(self.readings)
        tiles = []
        for number in [like["dot"]] if like and known else range(len(self.readings)):
            dot = self.readings[number].dot
            vectors = -(-self.width // dot.lanes)
            choices = [like["vectors"]] if like and known else _panels_of_bytes(dot, vectors)
            tile = tile_of(dot, self.rows, vectors, self.target, choices)
            tiles.append((tile.cycles * self.steps(dot), number, tile))
        _, number, tile = min(tiles, key=lambda found: found[:2])
        return {"dot": number, "columns": tile.columns, "vectors": tile.vectors}

    def steps(self, dot: Dot) -> int:
        return -(-self.depth // dot.depth)

    # --- weights ---

    def number(self, operand: int) -> int:
        """Which of the body's inputs it is."""
        return self.body.inputs.index(self.anchor.inputs[operand])  # type: ignore[arg-type]

    @property
    def elements_per_word(self) -> int:
        """Weights that take as much room as an int32."""
        return 32 // self.body.inputs[self.number(1)].dtype.bits

    def panel_elements(self, decision: Mapping[str, int]) -> int:
        """Of the packed weights, those of a panel; first the starts of its sums."""
        dot, vectors = self.readings[decision["dot"]].dot, decision["vectors"]
        return vectors * (dot.lanes * self.elements_per_word + self.steps(dot) * dot.step_bytes)

    def panels(self, decision: Mapping[str, int]) -> int:
        return -(-self.width // (self.readings[decision["dot"]].dot.lanes * decision["vectors"]))

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Panels of [vectors * lanes] starts and [step, vectors, lanes * depth] weights; nothing in the bias."""
        reading, vectors, panels = self.readings[decision["dot"]], decision["vectors"], self.panels(decision)
        dot, steps = reading.dot, self.steps(reading.dot)
        weights = constants[self.number(1)]
        full = np.zeros((panels * vectors * dot.lanes, steps * dot.depth), weights.dtype)
        full[: self.width, : self.depth] = weights.T
        split = full.reshape(panels, vectors, dot.lanes, steps, dot.depth).transpose(0, 3, 1, 2, 4)
        zero = self.anchor.int("a_zero_point") + reading.shift
        starts = -zero * full.astype(np.int64).sum(axis=1)
        found = {}
        if self.anchor.input(2) is not None:
            starts[: self.width] += constants[self.number(2)].reshape(-1)
            found[self.number(2)] = np.zeros(1, np.int32)
        words = starts.astype(np.int32).reshape(panels, -1).view(weights.dtype)
        found[self.number(1)] = np.hstack([words, dot.pack(split).reshape(panels, -1)]).reshape(-1)
        return found

    # --- the kernel ---

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        sizes = {self.number(1): self.panels(decision) * self.panel_elements(decision)}
        if self.anchor.input(2) is not None:
            sizes[self.number(2)] = 1
        return build_kernel(self.body, lambda buffers: _Kernel(self, decision, buffers).emit(), sizes)


def _readings(target: Target, dtype: str, weights: np.ndarray) -> tuple[Reading, ...]:
    """Ways to read `a`, those that need no other sign first; plain arithmetic is the last resort."""
    other, shift = OTHER_SIGN[dtype]
    *own, plain = (Reading(dot, 0) for dot in fitting_dots(target, dtype, weights, RUN))
    *moved, _ = (Reading(dot, shift) for dot in fitting_dots(target, other, weights, RUN))
    return tuple(own or moved) or (plain,)


def _panels_of_bytes(dot: Dot, vectors: int) -> list[int]:
    """How many of the `vectors` a panel may have, so that what it stores are whole vectors of bytes."""
    whole = -(-NARROWEST_STORE // dot.lanes)
    return list(range(whole, min(vectors, MOST_VECTORS) + 1, whole)) or [vectors]


class _Kernel(PanelKernel):
    """Writes one kernel."""

    def __init__(self, layer: IntegerProduct, decision: Mapping[str, int], buffers: Buffers) -> None:
        reading = layer.readings[decision["dot"]]
        dot, vectors = reading.dot, decision["vectors"]
        super().__init__(
            layer.body, layer.anchor, layer.rows, layer.width, decision["columns"], vectors * dot.lanes
        )
        self.layer, self.dot, self.shift, self.vectors = layer, dot, reading.shift, vectors
        self.steps, self.panel_elements = layer.steps(dot), layer.panel_elements(decision)
        a, b = layer.anchor.inputs[:2]
        assert a is not None and b is not None
        self.stored, self.b = buffers[a], buffers[b]
        self.read = dot.read_as(OTHER_SIGN[a.dtype.label][0] if self.shift else a.dtype.label)
        self.copies = bool(self.shift) or self.read != a.dtype.label or layer.depth % dot.depth > 0
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)

    @cached_property
    def stride(self) -> int:
        """Elements from one row of what is read to the next."""
        return self.steps * self.dot.depth if self.copies else self.layer.depth

    def emit(self) -> None:
        layer = self.layer
        self.a = self._copied() if self.copies else self.stored
        self.spread_tiles(layer.rows * layer.depth * layer.width)

    def _copied(self) -> tirx.Var:
        """`a` in the type that the dot product reads, its rows filled up with zeros to whole steps."""
        depth, stride = self.layer.depth, self.stride
        copy = T.alloc_buffer((self.rows * stride,), self.read, scope="global")

        def take(row: Expr, start: Expr | int, count: int) -> None:
            with T.vectorized(count) as lane:
                value = self.stored[row * depth + start + lane]
                T.buffer_store(copy, self._moved(value), [row * stride + start + lane])

        with spread(self.rows, self.rows * depth // COPIED_FOR_A_PRODUCT) as row:
            if depth >= COPIED_AT_ONCE:
                with T.serial(depth // COPIED_AT_ONCE) as block:
                    take(row, block * COPIED_AT_ONCE, COPIED_AT_ONCE)
            for start, count in pieces(depth % COPIED_AT_ONCE):
                take(row, depth - depth % COPIED_AT_ONCE + start, count)
            if stride > depth:
                with T.vectorized(stride - depth) as lane:
                    T.buffer_store(copy, tirx.const(0, self.read), [row * stride + depth + lane])
        return copy

    def _moved(self, value: Expr) -> Expr:
        return (
            (value.astype("int32") + self.shift).astype(self.read) if self.shift else value.astype(self.read)
        )

    def tile(self, panel: Expr, start: Expr, columns: int, width: int) -> None:
        dot, lanes = self.dot, self.dot.lanes
        vectors = -(-width // lanes)
        starts = Words(self.b, panel * self.panel_elements)
        weights = Pointer(self.b, starts.offset + self.wide * starts.elements_per_word)
        sums = dot.begin(columns, vectors, starts)
        with T.serial(self.steps) as step:
            inputs = [
                Pointer(self.a, (start + column) * self.stride + step * dot.depth)
                for column in range(columns)
            ]
            dot.step(sums, inputs, weights + step * (self.vectors * dot.step_bytes))
        results = dot.results(sums)
        if self.epilogue.is_long:
            results = copied(results, columns * vectors, lanes)
        for column in each(columns, looped=self.epilogue.is_long):
            with column as place:
                for begin, count in pieces(width):
                    with T.vectorized(count) as lane:
                        total = results[place * (vectors * lanes) + begin + lane]
                        indices = self.indices(start + place, panel * self.wide + begin + lane)
                        self.epilogue.store(total, indices)


def pieces(width: int) -> Iterator[tuple[int, int]]:
    """Starts and sizes of vectors that make up `width` elements: the widest first, all of them powers of two."""
    start, size = 0, STORED_AT_ONCE
    while start < width:
        while size > width - start:
            size //= 2
        yield start, size
        start += size

"""Products of bytes by panels: how the right factor is packed, how the left one is read, and the kernel.

    (sum over k of (a[m, k] - za) b[k, n]) + bias[n]
        = sum over k of a[m, k] b[k, n] + (bias[n] - za * sum over k of b[k, n])

Each panel of the right factor lies behind the int32 numbers that its sums start from. `a` is read as it lies where the
dot product takes its bytes, and its rows end with a step; otherwise it is copied first: widened, moved by 128 to the
other sign, or filled up with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot import (
    Dot,
    Packing,
    Pointer,
    Words,
    fitting_dots,
    in_few_bits,
    kept_whole,
    tile_of,
)
from graphopt.targets.schedules.templates.dot.tile import DotTile
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import Buffers, copied, each, spread
from graphopt.targets.schedules.templates.panels import PanelKernel

OTHER_SIGN = {"int8": ("uint8", 128), "uint8": ("int8", -128)}
"""The type that holds the same numbers when so much is added."""

READ = (*OTHER_SIGN, "int16")
"""Types of left factors."""

RUN = 16
"""Bytes of a row that a step reads at most, where both factors are computed."""

LONG_RUN = 64
"""The same where one factor is packed when the model is compiled."""

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


def readings(target: Target, dtype: str, weights: np.ndarray, run: int = RUN) -> tuple[Reading, ...]:
    """Ways to read inputs of type `dtype` by steps of a part of a `run`, those that need no other sign first; plain
    arithmetic is the last resort.

    Numbers of 16 bits have one sign.
    """
    *own, plain = (Reading(dot, 0) for dot in fitting_dots(target, dtype, weights, run))
    if dtype not in OTHER_SIGN:
        return tuple(own) or (plain,)
    other, shift = OTHER_SIGN[dtype]
    *moved, _ = (Reading(dot, shift) for dot in fitting_dots(target, other, weights, run))
    return tuple(own or moved) or (plain,)


def packed_readings(choices: Sequence[Reading], weights: np.ndarray, packing: Packing) -> tuple[Reading, ...]:
    """Those of `choices` that can read weights (columns, depth) of few bits."""
    packed = ((in_few_bits(choice.dot, RUN, weights, packing), choice.shift) for choice in choices)
    return tuple(Reading(dot, shift) for dot, shift in packed if dot is not None)


@dataclass(frozen=True)
class Panels:
    """A right factor, `depth` x `width` numbers of `bits`, in panels of `vectors` vectors of a dot product."""

    dot: Dot
    depth: int
    width: int
    vectors: int
    bits: int

    @property
    def steps(self) -> int:
        return -(-self.depth // self.dot.depth)

    @property
    def wide(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.dot.lanes

    @property
    def count(self) -> int:
        return -(-self.width // self.wide)

    @property
    def start_elements(self) -> int:
        """What the starts of a panel's sums take up, in elements of the factor."""
        return self.wide * (32 // self.bits)

    @property
    def elements(self) -> int:
        """Of a panel with its starts."""
        return self.start_elements + self.steps * self.vectors * self.dot.step_bytes

    @property
    def all_elements(self) -> int:
        """Of all panels, and of what each column has beside its weights, which lies behind them."""
        return self.count * (self.elements + self.wide * self.dot.least_bytes)

    def least(self, buffer: tirx.Var, panel: Expr) -> Pointer:
        """What the columns of a panel have beside their weights."""
        return Pointer(buffer, self.count * self.elements + panel * (self.wide * self.dot.least_bytes))

    def pack(self, weights: np.ndarray, bias: np.ndarray | None, zero: int) -> np.ndarray:
        """Panels of [vectors * lanes] starts and [step, vectors, lanes * depth] weights; then what is beside them."""
        full = np.zeros((self.count * self.wide, self.steps * self.dot.depth), weights.dtype)
        full[: self.width, : self.depth] = weights.T
        starts = -zero * full.astype(np.int64).sum(axis=1)
        if bias is not None:
            starts[: self.width] += bias.reshape(-1)
        words = starts.astype(np.int32).reshape(self.count, -1).view(weights.dtype)
        above, beside = self.dot.above_least(full)
        split = above.reshape(self.count, self.vectors, self.dot.lanes, self.steps, self.dot.depth)
        packed = self.dot.pack(split.transpose(0, 3, 1, 2, 4)).reshape(self.count, -1)
        panels = np.hstack([words, packed]).reshape(-1)
        return np.concatenate([panels, beside.reshape(-1)]) if beside.size else panels


def tile_decision(
    choices: Sequence[Reading],
    rows: int,
    depth: int,
    width: int,
    target: Target,
    like: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The way to read, columns and vectors of a tile that take the fewest estimated cycles; panels of those of `like`,
    where it is given."""
    known = like if like is not None and like["dot"] < len(choices) else None
    _, number, tile = _best_tile(choices, rows, depth, width, target, known)
    return {"dot": number, "columns": tile.columns, "vectors": tile.vectors}


def product_cycles(choices: Sequence[Reading], rows: int, depth: int, width: int, target: Target) -> float:
    """Estimated, of the best of the choices."""
    return _best_tile(choices, rows, depth, width, target)[0]


def _best_tile(
    choices: Sequence[Reading],
    rows: int,
    depth: int,
    width: int,
    target: Target,
    known: Mapping[str, int] | None = None,
) -> tuple[float, int, DotTile]:
    """Cycles, the number of the choice and its tile."""
    found = []
    for number in [known["dot"]] if known else range(len(choices)):
        dot = choices[number].dot
        vectors = -(-width // dot.lanes)
        wide = [known["vectors"]] if known else _panels_of_bytes(dot, vectors)
        tile = tile_of(dot, rows, vectors, target, wide)
        found.append((tile.cycles * -(-depth // dot.depth), number, tile))
    return min(found, key=lambda choice: choice[:2])


def _panels_of_bytes(dot: Dot, vectors: int) -> list[int]:
    """How many of the `vectors` a panel may have, so that what it stores are whole vectors of bytes."""
    whole = -(-NARROWEST_STORE // dot.lanes)
    return list(range(whole, min(vectors, MOST_VECTORS) + 1, whole)) or [vectors]


class IntegerPanelKernel(PanelKernel):
    """Writes one kernel, whose right factor is packed in `b`."""

    b: tirx.Var

    def __init__(
        self,
        body: Graph,
        anchor: Node,
        panels: Panels,
        rows: int,
        columns: int,
        shift: int,
        buffers: Buffers,
        target: Target,
        batches: int = 1,
    ) -> None:
        super().__init__(body, anchor, rows, panels.width, columns, panels.wide, batches)
        a = anchor.inputs[0]
        assert a is not None
        self.packed, self.dot, self.shift, self.target = panels, panels.dot, shift, target
        self.stored = buffers[a]
        self.read = self.dot.read_as(OTHER_SIGN[a.dtype.label][0] if shift else a.dtype.label)
        reads_beyond = math.gcd(rows, columns) % self.dot.rows_read > 0
        self.copies = (
            bool(shift) or self.read != a.dtype.label or panels.depth % self.dot.depth > 0 or reads_beyond
        )
        self.stride = panels.steps * self.dot.depth if self.copies else panels.depth
        self.epilogue = Epilogue(body, anchor, buffers)

    def tasks(self, count: int, work: int) -> AbstractContextManager[Expr]:
        return self.dot.tasks(count, work, self.target)

    def emit(self) -> None:
        self.a = self._copied() if self.copies else self.stored
        self.spread_tiles(self.batches * self.rows * self.packed.depth * self.width)

    def _copied(self) -> tirx.Var:
        """`a` in the type that the dot product reads, its rows filled up with zeros to whole steps."""
        depth, stride, rows = self.packed.depth, self.stride, self.batches * self.rows
        size = (rows + self.dot.rows_read - 1) * stride
        copy = T.alloc_buffer((size,), self.read, scope="global")
        if self.dot.rows_read > 1:
            kept_whole(copy, size)

        def take(row: Expr, start: Expr | int, count: int) -> None:
            with T.vectorized(count) as lane:
                value = self.moved(self.stored[row * depth + start + lane])
                T.buffer_store(copy, value.astype(self.read), [row * stride + start + lane])

        with spread(rows, rows * depth // COPIED_FOR_A_PRODUCT) as row:
            in_vectors(depth, lambda start, count: take(row, start, count))
            if stride > depth:
                with T.vectorized(stride - depth) as lane:
                    T.buffer_store(copy, tirx.const(0, self.read), [row * stride + depth + lane])
        return copy

    def moved(self, value: Expr) -> Expr:
        """An element of `a` as the dot product multiplies it."""
        return value.astype("int32") + self.shift if self.shift else value

    def tile(self, panel: Expr, start: Expr, columns: int, width: int) -> None:
        dot, packed = self.dot, self.packed
        vectors = -(-width // dot.lanes)
        first = (self.batch * packed.count + panel) * packed.elements
        sums = dot.begin(columns, vectors, Words(self.b, first)).above(packed.least(self.b, panel))
        with T.serial(packed.steps) as step:
            inputs = [
                Pointer(self.a, (start + column) * self.stride + step * dot.depth)
                for column in range(columns)
            ]
            place = first + packed.start_elements + step * (packed.vectors * dot.step_bytes)
            dot.step(sums, inputs, Pointer(self.b, place))
        results = dot.results(sums)
        if self.epilogue.is_long and not dot.results_in_memory:
            results = copied(results, columns * vectors, dot.lanes)
        for column in each(columns, looped=self.epilogue.is_long or dot.results_in_memory):
            with column as place:
                for begin, count in pieces(width):
                    with T.vectorized(count) as lane:
                        total = results[place * (vectors * dot.lanes) + begin + lane]
                        indices = self.indices(start + place, panel * self.wide + begin + lane)
                        self.epilogue.store(self.finished(total, start + place), indices)

    def finished(self, total: Expr, row: Expr) -> Expr:
        """The sum that belongs to what the dot product makes."""
        return total


def in_vectors(count: int, take: Callable[[Expr | int, int], None]) -> None:
    """`take` (start, size) of vectors that make up `count` elements."""
    whole, rest = divmod(count, COPIED_AT_ONCE)
    if whole:
        with T.serial(whole) as block:
            take(block * COPIED_AT_ONCE, COPIED_AT_ONCE)
    for start, size in pieces(rest):
        take(whole * COPIED_AT_ONCE + start, size)


def pieces(width: int) -> Iterator[tuple[int, int]]:
    """Starts and sizes of vectors that make up `width` elements: the widest first, all of them powers of two."""
    start, size = 0, STORED_AT_ONCE
    while start < width:
        while size > width - start:
            size //= 2
        yield start, size
        start += size

"""A block of queries of one head: scores, exponentials, and their product with the values."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.attention_operands import Heads, Mask, Packing
from graphopt.targets.schedules.templates.kernel import either, only_if
from graphopt.targets.schedules.templates.multiply import Tile
from graphopt.targets.schedules.templates.shuffles import across, filled, store_vector, vector_at
from graphopt.targets.transcendental import decaying_exponential

LOWEST = float(np.finfo(np.float32).min)
HIDDEN = tirx.const(-math.inf, "float32")
"""The score of a key that a query does not see."""


@dataclass(frozen=True)
class Shape:
    """What all blocks of a kernel share.

    A panel of keys has `vectors` vectors; `stretch` panels have room for their scores at once. Tiles of the result
    are `value_vectors` wide. `hold_queries` and `hold_scores` tell which left factors are read a vector at a time.
    """

    queries: Heads
    result: Heads
    packing: Packing
    mask: Mask | None
    causal: bool
    vectors: int
    stretch: int
    value_vectors: int
    hold_queries: bool
    hold_scores: bool

    @property
    def lanes(self) -> int:
        return self.packing.lanes

    @property
    def wide(self) -> int:
        """Keys of a panel."""
        return self.packing.wide

    @property
    def panels(self) -> int:
        return self.packing.padded // self.wide

    @property
    def length(self) -> int:
        """Scores of a row that are kept."""
        return self.stretch * self.wide


@dataclass(frozen=True)
class PackedHead:
    """Packed keys and values of a head, and where they begin."""

    keys: tirx.Var
    values: tirx.Var
    first_key: Expr | int
    first_value: Expr | int


class Block:
    """`count` queries of head `head` from `start` on."""

    def __init__(
        self, shape: Shape, packed: PackedHead, image: Expr, head: Expr, start: Expr, count: int
    ) -> None:
        self.shape = shape
        self.packed = packed
        self.image = image
        self.head = head
        self.start = start
        self.count = count
        self.lanes = shape.lanes
        self.value_width = shape.packing.value_width

    def emit(self) -> None:
        self.scores = T.alloc_buffer((self.count * self.shape.length,), "float32")
        self.peaks = T.alloc_buffer((self.count * self.lanes,), "float32")
        self.inverse = T.alloc_buffer((self.count,), "float32")
        if self.shape.stretch < self.shape.panels:
            self._in_stretches()
            return
        visible = self._visible(0)
        self._score(0, visible)
        with T.serial(self.count) as row:
            top = T.bind(self._top(row))
            total = self._exponentials(row, visible, top)
            T.buffer_store(self.inverse, self._reciprocal(total), [row])
        self._multiply(0, visible, None)

    def _in_stretches(self) -> None:
        """The maximum, the sum by lanes and the result of what has been seen so far, for each row."""
        lanes, wide = self.lanes, self.value_width
        peak, total, result = (
            T.alloc_buffer((self.count * elements,), "float32") for elements in (1, lanes, wide)
        )
        with T.serial(self.count) as row:
            T.buffer_store(peak, tirx.const(LOWEST, "float32"), [row])
            store_vector(total, row * lanes, filled(0.0, lanes), lanes)
            for vector in range(wide // lanes):
                store_vector(result, row * wide + vector * lanes, filled(0.0, lanes), lanes)
        with T.serial(-(-self.shape.panels // self.shape.stretch)) as stretch:
            first = stretch * self.shape.stretch
            visible = self._visible(first)
            with only_if(visible > 0 if self.shape.causal else None):
                self._score(first, visible)
                with T.serial(self.count) as row:
                    before = T.bind(peak[row])
                    top = T.bind(tirx.max(before, self._top(row)))
                    T.buffer_store(peak, top, [row])
                    kept = T.bind(decaying_exponential(tirx.Broadcast(before - top, lanes)))
                    added = self._exponentials(row, visible, top)
                    so_far = vector_at(total, row * lanes, lanes)
                    store_vector(total, row * lanes, so_far * kept + added, lanes)
                    for vector in range(wide // lanes):
                        at = row * wide + vector * lanes
                        store_vector(result, at, vector_at(result, at, lanes) * kept, lanes)
                self._multiply(first, visible, result)
        with T.serial(self.count) as row:
            whole = self._reciprocal(vector_at(total, row * lanes, lanes))
            T.buffer_store(self.inverse, whole, [row])
            for vector in range(wide // lanes):
                self._store(row, vector, result, row * wide + vector * lanes)

    def _reciprocal(self, total: Expr) -> Expr:
        """One over the sum of all lanes; a query that sees no key gets zeros."""
        one = tirx.const(1.0, "float32")
        whole = T.bind(across(total, self.lanes, lambda a, b: a + b))
        return one / tirx.Select(tirx.EQ(whole, tirx.const(0.0, "float32")), one, whole)

    def _visible(self, first: Expr | int) -> Expr:
        """Panels of the stretch from `first` on, as far as some query of the block may see a key."""
        shape = self.shape
        last = tirx.min(tirx.const(shape.panels, "int32") - first, shape.stretch)
        if shape.causal:
            reach = tirx.indexdiv(self.start + (self.count - 1), shape.wide) + 1
            last = tirx.max(tirx.min(last, reach - first), 0)
        return T.bind(last)

    # --- scores ---

    def _score(self, first: Expr | int, visible: Expr) -> None:
        """The scores of `visible` panels of keys from panel `first` on, and the largest ones by lane."""
        for row in range(self.count):
            store_vector(self.peaks, row * self.lanes, filled(LOWEST, self.lanes), self.lanes)
        self._by_panel(first, visible, self._panel)

    def _by_panel(self, first: Expr | int, visible: Expr, emit: Callable[[Expr, Expr, int], None]) -> None:
        """Statements for `visible` panels from `first` on: its number among those, and among all, and its keys."""
        shape = self.shape
        missing = shape.packing.padded - shape.packing.count
        with T.serial(visible) as step:
            panel = first + step
            either(
                panel < shape.panels - 1 if missing and shape.panels > 1 else None,
                lambda: emit(step, panel, shape.wide if shape.panels > 1 else shape.wide - missing),
                lambda: emit(step, panel, shape.wide - missing),
            )

    def _panel(self, step: Expr, panel: Expr, keys: int) -> None:
        """A tile of scores, of which the first `keys` columns are keys."""
        shape, lanes, wide = self.shape, self.lanes, self.shape.wide
        tile = Tile(self.count, -(-keys // lanes), lanes)
        sums = tile.sums()
        width = shape.queries.view.shape[3]
        base = self.packed.first_key + panel * width * wide
        tile.accumulate(
            sums,
            width,
            lambda column, k: shape.queries.at(self.image, self.head, self.start + column, k),
            lambda k, vector, lane: self.packed.keys[base + k * wide + vector * lanes + lane],
            hold=shape.hold_queries,
        )
        for column in range(self.count):
            for vector in range(shape.vectors):
                known = min(max(keys - vector * lanes, 0), lanes)
                at = column * shape.length + step * wide + vector * lanes
                stored = known if shape.mask is not None else lanes if known else 0
                if stored:
                    with T.vectorized(stored) as lane:
                        key = panel * wide + vector * lanes + lane
                        score = self._masked(sums[tile.place(0, column, vector) + lane], column, key)
                        if known < stored:
                            score = tirx.Select(lane < known, score, HIDDEN)
                        T.buffer_store(self.scores, score, [at + lane])
                    with T.vectorized(stored) as lane:
                        place = column * lanes + lane
                        peak = tirx.max(self.peaks[place], self.scores[at + lane])
                        T.buffer_store(self.peaks, peak, [place])
                if stored < lanes:
                    with T.vectorized(lanes - stored) as lane:
                        T.buffer_store(self.scores, HIDDEN, [at + stored + lane])

    def _masked(self, score: Expr, column: int, key: Expr) -> Expr:
        query = self.start + column
        if self.shape.mask is not None:
            score = self.shape.mask.apply(score, self.image, self.head, query, key)
        return tirx.Select(key <= query, score, HIDDEN) if self.shape.causal else score

    # --- exponentials ---

    def _top(self, row: Expr) -> Expr:
        """The largest score of a row."""
        return across(vector_at(self.peaks, row * self.lanes, self.lanes), self.lanes, tirx.max)

    def _exponentials(self, row: Expr, visible: Expr, top: Expr) -> Expr:
        """Turn a row of scores into exponentials of their distance from `top`; returns their sum by lanes."""
        shape, lanes = self.shape, self.lanes
        sums = T.alloc_buffer((shape.vectors * lanes,), "float32", scope="local")
        for vector in range(shape.vectors):
            store_vector(sums, vector * lanes, filled(0.0, lanes), lanes)
        with T.serial(visible) as panel:
            for vector in range(shape.vectors):
                at = row * shape.length + panel * shape.wide + vector * lanes
                distance = vector_at(self.scores, at, lanes) - tirx.Broadcast(top, lanes)
                power = T.bind(decaying_exponential(distance))
                store_vector(self.scores, at, power, lanes)
                place = vector * lanes
                store_vector(sums, place, vector_at(sums, place, lanes) + power, lanes)
        total = vector_at(sums, 0, lanes)
        for vector in range(1, shape.vectors):
            total = total + vector_at(sums, vector * lanes, lanes)
        return total

    # --- the product with the values ---

    def _multiply(self, first: Expr | int, visible: Expr, result: tirx.Var | None) -> None:
        """Exponentials times values: added to `result`, or finished where there is none."""
        shape, lanes = self.shape, self.lanes
        whole = self.value_width // lanes
        for start in range(0, whole, shape.value_vectors):
            tile = Tile(self.count, min(shape.value_vectors, whole - start), lanes)
            sums = tile.sums()
            places = [
                (tile.place(0, column, vector), column, start + vector) for _, column, vector in tile.places()
            ]
            if result is not None:
                for at, column, vector in places:
                    so_far = vector_at(result, column * self.value_width + vector * lanes, lanes)
                    store_vector(sums, at, so_far, lanes)
            add = functools.partial(self._accumulate, sums, tile, start)
            self._by_panel(first, visible, add)
            for at, column, vector in places:
                if result is None:
                    self._store(column, vector, sums, at)
                else:
                    place = column * self.value_width + vector * lanes
                    store_vector(result, place, vector_at(sums, at, lanes), lanes)

    def _accumulate(self, sums: tirx.Var, tile: Tile, start: int, step: Expr, panel: Expr, keys: int) -> None:
        """Add the products with the values of a panel of `keys`, whose scores are the block's panel `step`."""
        shape, lanes = self.shape, self.lanes
        base = self.packed.first_value + panel * shape.wide * self.value_width + start * lanes

        def score(column: int, k: Expr) -> Expr:
            return self.scores[column * shape.length + step * shape.wide + k]

        def value(k: Expr, vector: int, lane: Expr) -> Expr:
            return self.packed.values[base + k * self.value_width + vector * lanes + lane]

        tile.accumulate(sums, keys, score, value, hold=shape.hold_scores)

    def _store(self, row: Expr | int, vector: int, sums: tirx.Var, at: Expr | int) -> None:
        """Write the vector of a row's result that lies at `at` of `sums`, over the sum of exponentials."""
        depth = self.shape.result.view.shape[3]
        with T.vectorized(min(self.lanes, depth - vector * self.lanes)) as lane:
            element = vector * self.lanes + lane
            place = self.shape.result.place(self.image, self.head, self.start + row, element)
            T.buffer_store(self.shape.result.buffer, sums[at + lane] * self.inverse[row], [place])

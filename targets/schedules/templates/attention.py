"""Scaled dot-product attention without the matrix of scores.

    Y = softmax(Q K^T s + mask) V

Queries go by blocks of a few rows. For each block the scores of a stretch of keys are computed tile by tile into a
small buffer, then turned into exponentials, then multiplied with the values. The keys of a head, times s, are
packed as the right factor of a product, [panel][width][vectors * lanes], and the values as [key][vectors * lanes].
When the keys do not fit into one stretch, sums and results so far shrink with every larger maximum. Heads are read
and written where they lie: a split or transposed tensor is followed by its strides.

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import DType, Graph, Node, Value
from graphopt.targets.attention_group import is_plain
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.attention_operands import Heads, Packing
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    only_if,
    repeated,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.multiply import Tile
from graphopt.targets.schedules.templates.shuffles import across, filled, store_vector, vector_at
from graphopt.targets.schedules.templates.tile import Held, best_tile, fitting_vectors
from graphopt.targets.strided import View, moves_of, view_from, view_of
from graphopt.targets.transcendental import decaying_exponential

LARGEST_TASK = 32768
"""Bytes of packed keys, or values, that a task keeps for itself; larger ones are shared by all."""

SCORES_SHARE = 0.5
"""Part of the first-level cache for the scores of a block of queries."""

OPERAND_HEADS = ("q_num_heads", "kv_num_heads", "kv_num_heads")
"""Attributes that tell the heads of queries, keys and values."""

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class FusedAttention:
    """Attention with the moves around it. Operands and the result are (batch, heads, tokens, width)."""

    body: Graph
    anchor: Node
    target: Target
    queries: View
    keys: View
    values: View
    result: View
    name: str = "attention"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> FusedAttention | None:
        anchors = [node for node in body.nodes if node.is_op("Attention")]
        if len(anchors) != 1 or not is_plain(anchors[0]) or len(body.outputs) != 1:
            return None
        (anchor,) = anchors
        q, k, v = anchor.inputs[:3]
        assert q is not None and k is not None and v is not None
        chains = [moves_of(value) for value in (q, k, v)]
        behind = list(anchor.output.users)
        result = view_from(anchor.output, behind, _heads(anchor, anchor.output, "q_num_heads"))
        if result is None or result.source is not body.outputs[0]:
            return None
        if len({anchor, *behind, *(move for chain in chains for move in chain)}) != len(body):
            return None
        queries, keys, values = (
            view_of(value, chain, _heads(anchor, value, name))
            for value, chain, name in zip((q, k, v), chains, OPERAND_HEADS, strict=True)
        )
        mask = anchor.input(3)
        sources = (queries.source, keys.source, values.source, *([] if mask is None else [mask]))
        if any(source.producer is not None for source in sources):
            return None
        return cls(body, anchor, target, queries, keys, values, result)

    @property
    def lanes(self) -> int:
        return self.target.vector_bits // 32

    @property
    def vectors(self) -> int:
        """Vectors of keys."""
        return -(-self.keys.shape[2] // self.lanes)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        registers = self.target.vector_registers
        return {
            "columns": range(1, min(self.queries.shape[2], registers) + 1),
            "vectors": range(1, min(self.vectors, 8) + 1),
            "hold": (0, 1) if self.target.multiplies_by_lane else (0,),
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        width = self.queries.shape[3]
        hold = self.target.multiplies_by_lane and width >= self.lanes and self.queries.strides[3] == 1
        held = Held.along(self.lanes) if hold else None
        columns, vectors = best_tile(self.queries.shape[2], self.vectors, self.target, held=held)
        return {"columns": columns, "vectors": vectors, "hold": int(hold)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Nothing: keys and values are packed at run time."""
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, lambda buffers: _Emission(self, decision, buffers).emit())


def _heads(anchor: Node, value: Value, attribute: str) -> int | None:
    """How many heads lie side by side in the last axis; None where they have an axis of their own."""
    return anchor.int(attribute) if value.rank == 3 else None


@dataclass(frozen=True)
class _Place:
    """Packed keys and values of a head, and where they begin."""

    keys: tirx.Var
    values: tirx.Var
    first_key: Expr | int
    first_value: Expr | int


@dataclass(frozen=True)
class _Rows:
    """`count` queries of a head from `start` on, in a buffer of scores `length` wide."""

    batch: Expr
    head: Expr
    start: Expr
    count: int
    scores: tirx.Var
    peaks: tirx.Var


class _Emission:
    """Writes one kernel."""

    def __init__(self, layer: FusedAttention, decision: Mapping[str, int], buffers: Buffers) -> None:
        self.layer = layer
        self.columns = decision["columns"]
        self.hold = bool(decision["hold"])
        self.lanes = layer.lanes
        self.batch, self.heads, self.queries, self.width = layer.queries.shape
        self.groups, self.count = layer.keys.shape[1:3]
        self.depth = layer.values.shape[3]
        self.vectors = decision["vectors"]
        self.wide = self.vectors * self.lanes
        self.panels = -(-self.count // self.wide)
        self.q = Heads(buffers[layer.queries.source], layer.queries)
        self.y = Heads(buffers[layer.result.source], layer.result)
        scale = layer.anchor.float("scale", 1 / math.sqrt(self.width))
        keys = Heads(buffers[layer.keys.source], layer.keys)
        values = Heads(buffers[layer.values.source], layer.values)
        self.packing = Packing(keys, values, scale, self.lanes, self.wide)
        mask = layer.anchor.input(3)
        self.mask = mask
        self.mask_buffer = None if mask is None else buffers[mask]
        self.causal = bool(layer.anchor.int("is_causal"))
        room = int(layer.target.l1_bytes * SCORES_SHARE) // (4 * self.columns * self.wide)
        stretches = -(-self.panels // max(room, 1))
        self.stretch = -(-self.panels // stretches)
        self.stretches = -(-self.panels // self.stretch)

    # --- tasks ---

    def emit(self) -> None:
        work = self.batch * self.heads * self.queries * self.count * (self.width + self.depth)
        packing, share = self.packing, self.heads // self.groups
        pieces = -(-self.queries // self.columns)
        whole = max(packing.key_elements, packing.value_elements) * 4 <= LARGEST_TASK
        if whole and self.batch * self.groups >= self.layer.target.cores:
            with spread(self.batch * self.groups, work) as task:
                image, group = taken_apart(task, self.batch, self.groups)
                place = self._space(1, 0)
                self._pack(place, image, group)
                with repeated(share) as member:
                    self._head(place, image, group * share + member, pieces)
            return
        count = self.batch * self.groups
        space = self._space(count, 0)
        with spread(count, count * self.count * (self.width + self.depth)) as task:
            image, group = taken_apart(task, self.batch, self.groups)
            self._pack(self._at(space, task), image, group)
        with spread(self.batch * self.heads * pieces, work) as task:
            image, head, piece = taken_apart(task, self.batch, self.heads, pieces)
            place = self._at(space, image * self.groups + tirx.indexdiv(head, share))
            self._piece(place, image, head, piece, pieces)

    def _space(self, count: int, first: Expr | int) -> _Place:
        keys = T.alloc_buffer((count * self.packing.key_elements,), "float32")
        values = T.alloc_buffer((count * self.packing.value_elements,), "float32")
        return _Place(keys, values, first, first)

    def _at(self, space: _Place, number: Expr) -> _Place:
        packing = self.packing
        return _Place(
            space.keys, space.values, number * packing.key_elements, number * packing.value_elements
        )

    def _pack(self, place: _Place, image: Expr, group: Expr) -> None:
        self.packing.pack_keys(place.keys, place.first_key, image, group)
        self.packing.pack_values(place.values, place.first_value, image, group)

    def _head(self, place: _Place, image: Expr, head: Expr, pieces: int) -> None:
        with repeated(pieces) as piece:
            self._piece(place, image, head, piece, pieces)

    def _piece(self, place: _Place, image: Expr, head: Expr, piece: Expr | int, pieces: int) -> None:
        """A block of queries; the last may have fewer."""
        rest = self.queries % self.columns
        if rest and pieces > 1:
            with T.If(piece < pieces - 1):
                with T.Then():
                    self._rows(place, image, head, piece * self.columns, self.columns)
                with T.Else():
                    self._rows(place, image, head, piece * self.columns, rest)
        else:
            self._rows(place, image, head, piece * self.columns, rest or self.columns)

    # --- a block of queries ---

    def _rows(self, place: _Place, image: Expr, head: Expr, start: Expr | int, count: int) -> None:
        length = self.stretch * self.wide
        scores = T.alloc_buffer((count * length,), "float32")
        peaks = T.alloc_buffer((count * self.lanes,), "float32")
        rows = _Rows(image, head, tirx.convert(start), count, scores, peaks)
        if self.stretches == 1:
            inverse = T.alloc_buffer((count,), "float32")
            visible = self._visible(rows, 0)
            self._scores(rows, place, 0, visible)
            with T.serial(count) as row:
                top = T.bind(self._top(rows, row))
                total = self._exponentials(rows, row, visible, top)
                T.buffer_store(inverse, self._reciprocal(total), [row])
            self._product(rows, place, 0, visible, None, inverse)
            return
        self._rows_in_stretches(rows, place)

    def _rows_in_stretches(self, rows: _Rows, place: _Place) -> None:
        """The maximum, the sum by lanes and the result of what has been seen so far, for each row."""
        lanes, wide = self.lanes, self.packing.value_width
        peak, inverse, total, result = (
            T.alloc_buffer((rows.count * elements,), "float32") for elements in (1, 1, lanes, wide)
        )
        with T.serial(rows.count) as row:
            T.buffer_store(peak, tirx.const(LOWEST, "float32"), [row])
            store_vector(total, row * lanes, filled(0.0, lanes), lanes)
            for vector in range(wide // lanes):
                store_vector(result, row * wide + vector * lanes, filled(0.0, lanes), lanes)
        with T.serial(self.stretches) as stretch:
            first = stretch * self.stretch
            visible = self._visible(rows, first)
            with only_if(visible > 0 if self.causal else None):
                self._scores(rows, place, first, visible)
                with T.serial(rows.count) as row:
                    before = T.bind(peak[row])
                    top = T.bind(tirx.max(before, self._top(rows, row)))
                    T.buffer_store(peak, top, [row])
                    kept = T.bind(decaying_exponential(tirx.Broadcast(before - top, lanes)))
                    added = self._exponentials(rows, row, visible, top)
                    so_far = vector_at(total, row * lanes, lanes)
                    store_vector(total, row * lanes, so_far * kept + added, lanes)
                    for vector in range(wide // lanes):
                        at = row * wide + vector * lanes
                        store_vector(result, at, vector_at(result, at, lanes) * kept, lanes)
                self._product(rows, place, first, visible, result, None)
        with T.serial(rows.count) as row:
            T.buffer_store(inverse, self._reciprocal(vector_at(total, row * lanes, lanes)), [row])
            for vector in range(wide // lanes):
                with T.vectorized(min(lanes, self.depth - vector * lanes)) as lane:
                    value = result[row * wide + vector * lanes + lane] * inverse[row]
                    self._store(rows, row, vector * lanes + lane, value)

    def _reciprocal(self, total: Expr) -> Expr:
        """One over the sum of all lanes; a query that sees no key gets zeros."""
        one = tirx.const(1.0, "float32")
        whole = T.bind(across(total, self.lanes, lambda a, b: a + b))
        return one / tirx.Select(tirx.EQ(whole, tirx.const(0.0, "float32")), one, whole)

    def _visible(self, rows: _Rows, first: Expr | int) -> Expr:
        """Panels from `first` on that hold a key of this stretch which some query of the block may see."""
        last = tirx.min(tirx.const(self.panels, "int32") - first, self.stretch)
        if self.causal:
            reach = tirx.indexdiv(rows.start + (rows.count - 1), self.wide) + 1
            last = tirx.max(tirx.min(last, reach - first), 0)
        return T.bind(last)

    def _scores(self, rows: _Rows, place: _Place, first: Expr | int, visible: Expr) -> None:
        """The scores of `visible` panels of keys from panel `first` on, and the largest ones by lane."""
        for row in range(rows.count):
            store_vector(rows.peaks, row * self.lanes, filled(LOWEST, self.lanes), self.lanes)
        missing = self.panels * self.wide - self.count
        with T.serial(visible) as step:
            panel = first + step
            if missing and self.panels > 1:
                with T.If(panel < self.panels - 1):
                    with T.Then():
                        self._panel(rows, place, step, panel, self.wide)
                    with T.Else():
                        self._panel(rows, place, step, panel, self.wide - missing)
            else:
                self._panel(rows, place, step, panel, self.wide - missing)

    def _panel(self, rows: _Rows, place: _Place, step: Expr, panel: Expr, keys: int) -> None:
        """A tile of scores, of which the first `keys` columns are keys."""
        lanes, length = self.lanes, self.stretch * self.wide
        tile = Tile(rows.count, -(-keys // lanes), lanes)
        sums = tile.sums()
        base = place.first_key + panel * self.width * self.wide
        tile.accumulate(
            sums,
            self.width,
            lambda column, k: self.q.at(rows.batch, rows.head, rows.start + column, k),
            lambda k, vector, lane: place.keys[base + k * self.wide + vector * lanes + lane],
            hold=self.hold,
        )
        for column in range(rows.count):
            for vector in range(self.vectors):
                known = min(max(keys - vector * lanes, 0), lanes)
                at = column * length + step * self.wide + vector * lanes
                if known:
                    with T.vectorized(known) as lane:
                        score = self._masked(
                            sums[tile.place(0, column, vector) + lane],
                            rows,
                            column,
                            panel * self.wide + vector * lanes + lane,
                        )
                        T.buffer_store(rows.scores, score, [at + lane])
                    with T.vectorized(known) as lane:
                        peak = rows.peaks[column * lanes + lane]
                        T.buffer_store(
                            rows.peaks,
                            tirx.max(peak, rows.scores[at + lane]),
                            [column * lanes + lane],
                        )
                if known < lanes:
                    with T.vectorized(lanes - known) as lane:
                        hidden = tirx.const(-math.inf, "float32")
                        T.buffer_store(rows.scores, hidden, [at + known + lane])

    def _masked(self, score: Expr, rows: _Rows, column: int, key: Expr) -> Expr:
        hidden = tirx.const(-math.inf, "float32")
        query = rows.start + column
        if self.mask is not None and self.mask_buffer is not None:
            shape = (1,) * (4 - len(self.mask.static_shape)) + self.mask.static_shape
            place: Expr = tirx.const(0, "int32")
            for index, dim in zip((rows.batch, rows.head, query, key), shape, strict=True):
                place = place * dim + (0 if dim == 1 else index)
            given = self.mask_buffer[place]
            if self.mask.dtype is DType.bool:
                score = tirx.Select(given, score, hidden)
            else:
                score = score + given
        return tirx.Select(key <= query, score, hidden) if self.causal else score

    def _top(self, rows: _Rows, row: Expr) -> Expr:
        """The largest score of a row."""
        return across(vector_at(rows.peaks, row * self.lanes, self.lanes), self.lanes, tirx.max)

    def _exponentials(self, rows: _Rows, row: Expr, visible: Expr, top: Expr) -> Expr:
        """Turn a row of scores into exponentials of their distance from `top`; returns their sum by lanes."""
        lanes, length = self.lanes, self.stretch * self.wide
        sums = T.alloc_buffer((self.vectors * lanes,), "float32", scope="local")
        for vector in range(self.vectors):
            store_vector(sums, vector * lanes, filled(0.0, lanes), lanes)
        with T.serial(visible) as panel:
            for vector in range(self.vectors):
                at = row * length + panel * self.wide + vector * lanes
                distance = vector_at(rows.scores, at, lanes) - tirx.Broadcast(top, lanes)
                power = T.bind(decaying_exponential(distance))
                store_vector(rows.scores, at, power, lanes)
                place = vector * lanes
                store_vector(sums, place, vector_at(sums, place, lanes) + power, lanes)
        total = vector_at(sums, 0, lanes)
        for vector in range(1, self.vectors):
            total = total + vector_at(sums, vector * lanes, lanes)
        return total

    def _product(
        self,
        rows: _Rows,
        place: _Place,
        first: Expr | int,
        visible: Expr,
        result: tirx.Var | None,
        inverse: tirx.Var | None,
    ) -> None:
        """Exponentials times values: added to `result`, or times `inverse` into the kernel's output."""
        lanes, length, wide = self.lanes, self.stretch * self.wide, self.packing.value_width
        whole = wide // lanes
        vectors = fitting_vectors(whole, rows.count, self.layer.target, hold=self.hold)
        for start in range(0, whole, vectors):
            tile = Tile(rows.count, min(vectors, whole - start), lanes)
            sums = tile.sums()
            if result is not None:
                for _, column, vector in tile.places():
                    at = column * wide + (start + vector) * lanes
                    store_vector(sums, tile.place(0, column, vector), vector_at(result, at, lanes), lanes)
            with T.serial(visible) as step:
                key = (first + step) * self.wide

                def left(column: int, k: Expr, step: Expr = step) -> Expr:
                    return rows.scores[column * length + step * self.wide + k]

                def right(k: Expr, vector: int, lane: Expr, key: Expr = key, start: int = start) -> Expr:
                    at = (key + k) * wide + (start + vector) * lanes
                    return place.values[place.first_value + at + lane]

                tile.accumulate(sums, self.wide, left, right, hold=self.layer.target.multiplies_by_lane)
            for _, column, vector in tile.places():
                if result is not None:
                    at = column * wide + (start + vector) * lanes
                    total = vector_at(sums, tile.place(0, column, vector), lanes)
                    store_vector(result, at, total, lanes)
                    continue
                assert inverse is not None
                with T.vectorized(min(lanes, self.depth - (start + vector) * lanes)) as lane:
                    value = sums[tile.place(0, column, vector) + lane] * inverse[column]
                    self._store(rows, column, (start + vector) * lanes + lane, value)

    def _store(self, rows: _Rows, row: Expr | int, element: Expr, value: Expr) -> None:
        at = self.y.place(rows.batch, rows.head, rows.start + row, element)
        T.buffer_store(self.y.buffer, value, [at])

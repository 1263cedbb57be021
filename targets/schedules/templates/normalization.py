"""Softmax and normalisation of rows that lie in one piece.

    Softmax             exp(x - max) / sum(exp(x - max))
    LogSoftmax          x - max - log(sum(exp(x - max)))
    LayerNormalization  (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias
    RMSNormalization    x / sqrt(mean(x^2) + epsilon) * scale

A row is copied, or dequantised, into a buffer of whole vectors in the first-level cache while its maximum or sum is
taken, worked on there, and written with what follows element by element. What fills up its last vector changes neither:
the lowest number beside a maximum, zero beside a sum. Several sums take turns, so that additions do not wait for each
other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Graph, Node, Value
from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr, unflatten
from graphopt.targets.schedules.templates.epilogue import Epilogue, Prologue, fits
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, spread
from graphopt.targets.schedules.templates.shuffles import across, filled, store_vector, vector_at
from graphopt.targets.transcendental import decaying_exponential

SOFTMAX = ("Softmax", "LogSoftmax")
BY_MOMENTS = ("LayerNormalization", "RMSNormalization")

LONGEST = 1 << 14
"""Elements of a row that a task keeps on its stack."""

OPERATIONS = 8
"""Elementary operations for each element, for what threads pay for."""

TURNS = 4


@dataclass(frozen=True)
class RowNormalization:
    """`rows` rows of `length` elements."""

    body: Graph
    anchor: Node
    target: Target
    rows: int
    length: int
    name: str = "row-normalization"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> RowNormalization | None:
        anchors = [node for node in body.nodes if node.is_op(*SOFTMAX, *BY_MOMENTS)]
        if len(anchors) != 1 or len(anchors[0].outputs) != 1 or not fits(body, anchors[0], prologue=True):
            return None
        (anchor,) = anchors
        x = anchor.input(0)
        assert x is not None
        rank = len(x.static_shape)
        axis = anchor.int("axis", -1) % rank
        if axis != rank - 1 or any(v is not None and v.producer is not None for v in anchor.inputs[1:]):
            return None
        length = x.static_shape[-1]
        if not target.vector_bits // 32 <= length <= LONGEST:
            return None
        if any(v is not None and v.static_shape != (length,) for v in anchor.inputs[1:]):
            return None
        return cls(body, anchor, target, math.prod(x.static_shape[:-1]), length)

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {"turns": (1, 2, TURNS)}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {"turns": max(t for t in (1, 2, TURNS) if t * self.target.vector_bits // 32 <= self.length)}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Nothing: scale and bias are read as they lie."""
        return {}

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, lambda buffers: _Emission(self, decision["turns"], buffers).emit())


class _Emission:
    """Writes one kernel."""

    def __init__(self, layer: RowNormalization, turns: int, buffers: Buffers) -> None:
        self.layer = layer
        self.turns = turns
        self.lanes = layer.target.vector_bits // 32
        self.whole, self.rest = divmod(layer.length, self.lanes)
        self.vectors = self.whole + bool(self.rest)
        self.leading = layer.anchor.output.static_shape[:-1]
        self.source = Prologue(layer.body, layer.anchor, buffers)
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        self.scale, self.bias = (self._buffer(buffers, number) for number in (1, 2))

    def _buffer(self, buffers: Buffers, number: int) -> tirx.Var | None:
        value: Value | None = self.layer.anchor.input(number)
        return None if value is None else buffers[value]

    def emit(self) -> None:
        layer = self.layer
        with spread(layer.rows, layer.rows * layer.length * OPERATIONS) as row:
            values = T.alloc_buffer((self.vectors * self.lanes,), "float32")
            if layer.anchor.op_type in SOFTMAX:
                self._softmax(row, values)
            else:
                self._normalise(row, values, centred=layer.anchor.op_type == "LayerNormalization")

    # --- the two families ---

    def _softmax(self, row: Expr, values: tirx.Var) -> None:
        lowest = float(np.finfo(np.float32).min)
        peak = self._scalar(self._copied(row, values, -math.inf, tirx.max, lowest), tirx.max)
        logarithmic = self.layer.anchor.op_type == "LogSoftmax"

        def power(place: Expr | int) -> Expr:
            distance = vector_at(values, place, self.lanes) - tirx.Broadcast(peak[0], self.lanes)
            power = T.bind(decaying_exponential(distance))
            store_vector(values, place, distance if logarithmic else power, self.lanes)
            return power

        total = self._scalar(self._folded(power, _add, 0.0), _add)
        if logarithmic:
            offset = self._single(tirx.log(total[0]))
            self._store(row, lambda place, lane: values[place + lane] - offset[0])
        else:
            inverse = self._single(1.0 / total[0])
            self._store(row, lambda place, lane: values[place + lane] * inverse[0])

    def _normalise(self, row: Expr, values: tirx.Var, *, centred: bool) -> None:
        share = tirx.const(1 / self.layer.length, "float32")
        total = self._copied(row, values, 0.0, _add, 0.0)
        if centred:
            mean = self._single(self._scalar(total, _add)[0] * share)
            self._centre(values, mean)

        def square(place: Expr | int) -> Expr:
            value = T.bind(vector_at(values, place, self.lanes))
            return value * value

        squares = self._scalar(self._folded(square, _add, 0.0), _add)
        epsilon = tirx.const(self.layer.anchor.float("epsilon", 1e-5), "float32")
        inverse = self._single(1.0 / tirx.sqrt(squares[0] * share + epsilon))

        def result(place: Expr, lane: Expr) -> Expr:
            value = values[place + lane] * inverse[0]
            if self.scale is not None:
                value = value * self.scale[place + lane]
            return value if self.bias is None else value + self.bias[place + lane]

        self._store(row, result)

    def _centre(self, values: tirx.Var, mean: tirx.Var) -> None:
        """Subtract the mean; what fills the last vector up stays zero."""
        with T.serial(self.whole) as vector, T.vectorized(self.lanes) as lane:
            place = vector * self.lanes + lane
            T.buffer_store(values, values[place] - mean[0], [place])
        if self.rest:
            with T.vectorized(self.rest) as lane:
                place = self.whole * self.lanes + lane
                T.buffer_store(values, values[place] - mean[0], [place])

    # --- passes over a row ---

    def _copied(
        self, row: Expr, values: tirx.Var, filling: float, combine: Callable[[Expr, Expr], Expr], start: float
    ) -> tirx.Var:
        """Copy the row into `values`, filled up; what its vectors are combined to."""
        leading = unflatten(row, self.leading)

        def read(place: Expr | int, lanes: int) -> None:
            with T.vectorized(lanes) as lane:
                T.buffer_store(values, self.source.read([*leading, place + lane]), [place + lane])

        if self.rest:
            store_vector(values, self.whole * self.lanes, filled(filling, self.lanes), self.lanes)
            read(self.whole * self.lanes, self.rest)

        def copy(place: Expr | int) -> Expr:
            if not (isinstance(place, int) and place == self.whole * self.lanes):
                read(place, self.lanes)
            return vector_at(values, place, self.lanes)

        return self._folded(copy, combine, start)

    def _folded(
        self, value: Callable[[Expr | int], Expr], combine: Callable[[Expr, Expr], Expr], start: float
    ) -> tirx.Var:
        """`value` of every vector's place, combined: `turns` results take turns, then become one."""
        lanes = self.lanes
        found = T.alloc_buffer((self.turns * lanes,), "float32", scope="local")
        for turn in range(self.turns):
            store_vector(found, turn * lanes, filled(start, lanes), lanes)

        def take(turn: int, place: Expr | int) -> None:
            so_far = vector_at(found, turn * lanes, lanes)
            store_vector(found, turn * lanes, combine(so_far, value(place)), lanes)

        with T.serial(self.whole // self.turns) as group:
            for turn in range(self.turns):
                take(turn, (group * self.turns + turn) * lanes)
        for vector in range(self.whole // self.turns * self.turns, self.vectors):
            take(vector % self.turns, vector * lanes)
        for turn in range(1, self.turns):
            joined = combine(vector_at(found, 0, lanes), vector_at(found, turn * lanes, lanes))
            store_vector(found, 0, joined, lanes)
        return found

    def _scalar(self, vector: tirx.Var, combine: Callable[[Expr, Expr], Expr]) -> tirx.Var:
        return self._single(across(vector_at(vector, 0, self.lanes), self.lanes, combine))

    @staticmethod
    def _single(value: Expr) -> tirx.Var:
        """A number in a buffer of its own, which loops over lanes may read."""
        found = T.alloc_buffer((1,), "float32", scope="local")
        T.buffer_store(found, value, [0])
        return found

    def _store(self, row: Expr, value: Callable[[Expr, Expr], Expr]) -> None:
        leading = unflatten(row, self.leading)
        with T.serial(self.whole) as vector, T.vectorized(self.lanes) as lane:
            place = vector * self.lanes
            self.epilogue.store(value(place, lane), [*leading, place + lane])
        if self.rest:
            place = tirx.const(self.whole * self.lanes, "int32")
            with T.vectorized(self.rest) as lane:
                self.epilogue.store(value(place, lane), [*leading, place + lane])


def _add(a: Expr, b: Expr) -> Expr:
    return a + b

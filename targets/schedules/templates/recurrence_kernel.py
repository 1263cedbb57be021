"""The kernel of a recurrence of bytes: a loop over the steps, tiles of hidden units within.

A tile multiplies the state by its panel, all gates at once, goes on in float32 lanes, and leaves its part of the next
state as bytes, or whatever the dot product reads. The state is kept twice, before and after a step, so that the tiles
of a step do not depend on each other. Products are rounded before they are added, as in kernels of single operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import Node
from graphopt.targets.lower.recurrent_loop import STEP_PARALLEL_FROM, blocks
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.requantize import apart, to_byte
from graphopt.targets.schedules.templates.dot import Pointer, Words
from graphopt.targets.schedules.templates.integer_panels import OTHER_SIGN, Panels, in_vectors, pieces
from graphopt.targets.schedules.templates.kernel import Buffers, either, repeated

X, R, BIAS, SCALE, INITIAL_H, INITIAL_C = range(6)
"""The operands. INITIAL_C is LSTM's."""

BYTES_FOR_A_FLOAT = 4
"""Products of bytes in the time of one of floats."""

Lanes = Callable[[Expr], Expr]
"""From a lane, or what lies there, to what is made of it."""


@dataclass(frozen=True)
class Shape:
    """How tiles see the weights: `wide` hidden units of all gates to a panel, `columns` sequences at once.

    `shift` is added to the state as the dot product reads it.
    """

    panels: Panels
    gates: int
    wide: int
    columns: int
    shift: int

    def by_tile(self, data: np.ndarray) -> np.ndarray:
        """[..., gates * hidden] --> [..., tiles * gates * wide], the last tile filled up with zeros."""
        *leading, columns = data.shape
        hidden, tiles = columns // self.gates, self.panels.count
        gated = data.reshape(*leading, self.gates, hidden)
        missing = tiles * self.wide - hidden
        filled = np.pad(gated, [(0, 0)] * (gated.ndim - 1) + [(0, missing)])
        tiled = filled.reshape(*leading, self.gates, tiles, self.wide)
        return np.ascontiguousarray(np.swapaxes(tiled, -2, -3)).reshape(*leading, -1)


@dataclass(frozen=True)
class _Place:
    """Hidden units from `begin` of a tile on, `count` of them, of one sequence at a step.

    `row` is that of the sequence among the sums of the tile.
    """

    step: Expr
    time: Expr
    tile: Expr
    sequence: Expr
    row: int
    begin: int
    count: int


class RecurrenceKernel:
    """Writes one kernel on packed weights and scale."""

    sums: tirx.Var

    def __init__(self, node: Node, shape: Shape, buffers: Buffers) -> None:
        self.node, self.shape, self.buffers = node, shape, buffers
        self.dot = shape.panels.dot
        x, h = node.inputs[X], node.inputs[INITIAL_H]
        assert x is not None and h is not None
        self.steps, self.batch, _ = x.static_shape
        self.hidden = h.static_shape[1]
        self.stored = h.dtype.label
        self.read = self.dot.read_as(OTHER_SIGN[self.stored][0] if shape.shift else self.stored)
        self.stride = shape.panels.steps * self.dot.depth
        self.zero = node.int("h_zero_point")
        self.unit = tirx.const(node.float("h_scale"), "float32")

    def emit(self) -> None:
        self._begin()
        if self.node.op_type == "LSTM":
            self._begin_cell()
        tiles = self.shape.panels.count
        macs = self.batch * self.hidden * self.shape.panels.width
        is_parallel = macs >= STEP_PARALLEL_FROM * BYTES_FOR_A_FLOAT and tiles > 1
        with T.serial(self.steps) as step, T.parallel(tiles) if is_parallel else T.serial(tiles) as tile:
            self._panel(step, tile)
        self._end()

    def _begin(self) -> None:
        """The first state as the dot product reads it, its rows filled up with zeros to whole steps."""
        half, first = self.batch * self.stride, self._operand(INITIAL_H)
        self.state = T.alloc_buffer((2 * half,), self.read, scope="global")
        in_vectors(2 * half, lambda start, count: self._fill(self.state, start, count, self._nothing))
        with T.serial(self.batch) as row, T.serial(self.hidden) as unit:
            value = first(row * self.hidden + unit).astype("int32") + self.shape.shift
            T.buffer_store(self.state, value.astype(self.read), [row * self.stride + unit])

    def _begin_cell(self) -> None:
        size, first = self.batch * self.hidden, self._operand(INITIAL_C)
        result = self.buffers.get(self.node.outputs[1])
        self.cell = T.alloc_buffer((size,), "float32", scope="global") if result is None else result
        in_vectors(size, lambda start, count: self._fill(self.cell, start, count, first))

    def _end(self) -> None:
        """The last state, as it is stored."""
        result = self.buffers.get(self.node.outputs[0])
        if result is None:
            return
        first = self.steps % 2 * self.batch * self.stride
        with T.serial(self.batch) as row, T.serial(self.hidden) as unit:
            value = self.state[first + row * self.stride + unit].astype("int32") - self.shape.shift
            T.buffer_store(result, value.astype(self.stored), [row * self.hidden + unit])

    @staticmethod
    def _fill(buffer: tirx.Var, start: Expr | int, count: int, value: Lanes) -> None:
        with T.vectorized(count) as lane:
            T.buffer_store(buffer, value(start + lane), [start + lane])

    def _nothing(self, _: Expr) -> Expr:
        return tirx.const(0, self.read)

    def _operand(self, index: int) -> Lanes:
        """An operand by the number of an element; one that is a single constant has no buffer."""
        value = self.node.inputs[index]
        assert value is not None
        if value.constant is not None:
            number = tirx.const(value.scalar(), value.dtype.label)
            return lambda _: number
        return lambda at: self.buffers[value][at]

    # --- a step of a tile ---

    def _panel(self, step: Expr, tile: Expr) -> None:
        """All sequences; the last tile may have fewer hidden units."""
        tiles, wide = self.shape.panels.count, self.shape.wide
        last = self.hidden - (tiles - 1) * wide
        either(
            tile < tiles - 1 if last < wide and tiles > 1 else None,
            lambda: self._sequences(step, tile, wide if tiles > 1 or last == wide else last),
            lambda: self._sequences(step, tile, last),
        )

    def _sequences(self, step: Expr, tile: Expr, width: int) -> None:
        time = self.steps - 1 - step if self.node.int("reverse") else step
        for start, number, size in blocks(self.batch, self.shape.columns):
            with repeated(number) as block:
                first = start + block * size
                self.sums = self._sums(step, tile, first, size)
                for row in range(size):
                    for begin, count in pieces(width):
                        self._cell(_Place(step, time, tile, first + row, row, begin, count))

    def _sums(self, step: Expr, tile: Expr, first: Expr | int, count: int) -> tirx.Var:
        """The products of `count` sequences with the panel, and the bias."""
        dot, panels = self.dot, self.shape.panels
        weights = self.buffers[self.node.inputs[R]]  # type: ignore[index]
        start = tile * panels.elements
        sums = dot.begin(count, panels.vectors, Words(weights, start))
        with T.serial(panels.steps) as k:
            inputs = [
                Pointer(self.state, self._row(step, first + column) + k * dot.depth)
                for column in range(count)
            ]
            place = start + panels.start_elements + k * (panels.vectors * dot.step_bytes)
            dot.step(sums, inputs, Pointer(weights, place))
        return dot.results(sums)

    def _row(self, step: Expr, sequence: Expr | int) -> Expr:
        """Where the state of a sequence before a step begins."""
        return (tirx.indexmod(step, 2) * self.batch + sequence) * self.stride

    # --- the cell, in lanes ---

    def _cell(self, place: _Place) -> None:
        made = self._lstm(place) if self.node.op_type == "LSTM" else self._gru(place)
        bytes_ = T.alloc_buffer((place.count,), self.stored, scope="local")
        zero = tirx.const(self.zero, self.stored)
        self._fill(bytes_, 0, place.count, lambda lane: to_byte(made[lane] / self.unit, zero, self.stored))
        after = self._row(place.step + 1, place.sequence)
        every = self.buffers.get(self.node.outputs[-1])
        with T.vectorized(place.count) as lane:
            value = bytes_[lane].astype("int32") + self.shape.shift if self.shape.shift else bytes_[lane]
            T.buffer_store(self.state, value.astype(self.read), [after + self._unit(place, lane)])
        if every is not None:
            start = (place.time * self.batch + place.sequence) * self.hidden
            with T.vectorized(place.count) as lane:
                kept = bytes_ if every.dtype == self.stored else made
                T.buffer_store(every, kept[lane], [start + self._unit(place, lane)])

    def _lstm(self, place: _Place) -> tirx.Var:
        """Gates in the order input, output, forget, candidate."""
        enter, leave, forget = (self._gate(place, number, tirx.sigmoid) for number in range(3))
        candidate = self._gate(place, 3, tirx.tanh)

        def at(lane: Expr) -> Expr:
            return place.sequence * self.hidden + self._unit(place, lane)

        new = self._floats(
            place,
            lambda lane: apart(forget[lane] * self.cell[at(lane)]) + apart(enter[lane] * candidate[lane]),
        )
        with T.vectorized(place.count) as lane:
            T.buffer_store(self.cell, new[lane], [at(lane)])
        return self._floats(place, lambda lane: leave[lane] * tirx.tanh(new[lane]))

    def _gru(self, place: _Place) -> tirx.Var:
        """Gates in the order update, reset, candidate."""
        update, reset = (self._gate(place, number, tirx.sigmoid) for number in range(2))
        candidate = self._floats(
            place,
            lambda lane: tirx.tanh(
                self._x(place, 2, lane) + apart(reset[lane] * self._product(place, 2, lane))
            ),
        )
        return self._floats(
            place,
            lambda lane: candidate[lane] + apart(update[lane] * (self._h(place, lane) - candidate[lane])),
        )

    def _gate(self, place: _Place, number: int, function: Lanes) -> tirx.Var:
        """`function` of what comes from x and from the state."""
        return self._floats(
            place, lambda lane: function(self._x(place, number, lane) + self._product(place, number, lane))
        )

    def _floats(self, place: _Place, value: Lanes) -> tirx.Var:
        """`value` of each lane, in a register."""
        buffer = T.alloc_buffer((place.count,), "float32", scope="local")
        self._fill(buffer, 0, place.count, value)
        return buffer

    def _unit(self, place: _Place, lane: Expr) -> Expr:
        return place.tile * self.shape.wide + place.begin + lane

    def _x(self, place: _Place, gate: int, lane: Expr) -> Expr:
        row = (place.time * self.batch + place.sequence) * self.shape.gates + gate
        return self.buffers[self.node.inputs[X]][row * self.hidden + self._unit(place, lane)]  # type: ignore[index]

    def _product(self, place: _Place, gate: int, lane: Expr) -> Expr:
        """The product with the state as floats."""
        shape, column = self.shape, gate * self.shape.wide + place.begin + lane
        total = self.sums[place.row * (shape.panels.vectors * self.dot.lanes) + column].astype("float32")
        scale = self.buffers[self.node.inputs[SCALE]]  # type: ignore[index]
        return apart(total * scale[place.tile * (shape.gates * shape.wide) + column])

    def _h(self, place: _Place, lane: Expr) -> Expr:
        """The state before the step."""
        stored = self.state[self._row(place.step, place.sequence) + self._unit(place, lane)].astype("int32")
        return apart((stored - (self.shape.shift + self.zero)).astype("float32") * self.unit)

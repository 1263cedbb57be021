"""What a step computes behind the sums: the cells of LSTM, GRU and RNN, one vector of hidden units at a time.

    LSTM    i = f(Wi x + Ri h + Pi c),  o = f(Wo x + Ro h + Po c'),  g = g(Wc x + Rc h)
            f = f(Wf x + Rf h + Pf c), or 1 - i with `input_forget`
            c' = f c + i g,  h' = o h(c')
    GRU     z = f(Wz x + Rz h),  r = f(Wr x + Rr h)
            n = g(Wh x + Rh (r h)), or g(Wh x + r (Rh h)) with `linear_before_reset`
            h' = (1 - z) n + z h
    RNN     h' = f(W x + R h)

Biases are left out here. `clip` bounds what f and g are applied to, not the cell state, as ONNX Runtime has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.kernel import Memory
from graphopt.targets.lower.recurrent_activations import Activation
from graphopt.targets.lower.recurrent_loop import Phase, Place, Read, Recurrence
from graphopt.targets.lower.tensors import Expr, dtype_of

INPUT, OUTPUT, FORGET, CELL = range(4)
"""ONNX's order of the gates of LSTM."""

UPDATE, RESET, HIDDEN = range(3)
"""ONNX's order of the gates of GRU."""

PEEPHOLES = {INPUT: 0, OUTPUT: 1, FORGET: 2}
"""ONNX's order of the peepholes of LSTM."""


@dataclass(frozen=True)
class LSTM:
    """`cell` [directions, batch, padded] is the cell state; `peepholes` reads by (direction, peephole, unit)."""

    recurrence: Recurrence
    activations: tuple[Activation, ...]
    clip: float
    cell: Memory
    peepholes: Read | None
    input_forget: bool

    @property
    def phases(self) -> Sequence[Phase]:
        return (self._step,)

    def _step(self, place: Place) -> None:
        run = self.recurrence
        for first, count in run.sequences(run.sizes.gates):
            start, state = run.projection(place), run.state(place)
            sums = run.sums(place, first, count, range(run.sizes.gates), start, state)
            for row in range(count):
                self._cell(place, first + row, sums, row)

    def _cell(self, place: Place, b: Expr, sums: Memory, row: int) -> None:
        run, (f, g, h) = self.recurrence, self.activations
        lanes = run.sizes.lanes

        def state(lane: Expr) -> Expr:
            return self.cell[place.direction, b, run.unit(place, lane)]

        def gate(number: int, lane: Expr) -> Expr:
            """What the activation of a gate is applied to."""
            value = sums[row, number, lane]
            if self.peepholes is not None and number in PEEPHOLES:
                unit = run.unit(place, lane)
                value = value + self.peepholes(place.direction, PEEPHOLES[number], unit) * state(lane)
            return clipped(value, self.clip)

        with T.vectorized(0, lanes) as lane:
            sums.store(f(gate(INPUT, lane)), row, INPUT, lane)
        with T.vectorized(0, lanes) as lane:
            i = sums[row, INPUT, lane]
            forget = one(i) - i if self.input_forget else f(gate(FORGET, lane))
            new = forget * state(lane) + i * g(gate(CELL, lane))
            kept = run.keep_unless_running(place, b, new, state(lane))
            self.cell.store(kept, place.direction, b, run.unit(place, lane))
        run.finish(place, b, lambda lane: f(gate(OUTPUT, lane)) * h(state(lane)))


@dataclass(frozen=True)
class GRU:
    """`update` and `gated` [directions, batch, padded] hold z and r h between the phases of a step.

    With `linear_before_reset` there is one phase and no such buffer; `bias` then reads the recurrent bias of n
    by (direction, unit).
    """

    recurrence: Recurrence
    activations: tuple[Activation, ...]
    clip: float
    bias: Read | None
    update: Memory | None
    gated: Memory | None

    @property
    def phases(self) -> Sequence[Phase]:
        return (self._linear_step,) if self.gated is None else (self._gates, self._candidate)

    def _gates(self, place: Place) -> None:
        run = self.recurrence
        for first, count in run.sequences(2):
            start, state = run.projection(place), run.state(place)
            sums = run.sums(place, first, count, (UPDATE, RESET), start, state)
            for row in range(count):
                self._store_gates(place, first + row, sums, row)

    def _store_gates(self, place: Place, b: Expr, sums: Memory, row: int) -> None:
        run, f = self.recurrence, self.activations[0]
        assert self.update is not None and self.gated is not None
        with T.vectorized(0, run.sizes.lanes) as lane:
            z = f(clipped(sums[row, UPDATE, lane], self.clip))
            self.update.store(z, place.direction, b, run.unit(place, lane))
        with T.vectorized(0, run.sizes.lanes) as lane:
            unit = run.unit(place, lane)
            r = f(clipped(sums[row, RESET, lane], self.clip))
            self.gated.store(r * run.state(place)(b, unit), place.direction, b, unit)

    def _candidate(self, place: Place) -> None:
        run, d, update, gated = self.recurrence, place.direction, self.update, self.gated
        assert update is not None and gated is not None
        for first, count in run.sequences(1):
            start = run.projection(place)
            sums = run.sums(place, first, count, (HIDDEN,), start, lambda b, unit: gated[d, b, unit])
            for row in range(count):
                self._finish_candidate(place, first + row, update, sums, row)

    def _finish_candidate(self, place: Place, b: Expr, update: Memory, sums: Memory, row: int) -> None:
        unit = self.recurrence.unit
        self._mix(
            place,
            b,
            lambda lane: update[place.direction, b, unit(place, lane)],
            lambda lane: sums[row, 0, lane],
        )

    def _linear_step(self, place: Place) -> None:
        run = self.recurrence
        projection = run.projection(place)

        def start(b: Expr, gate: int, lane: Expr) -> Expr:
            if gate != HIDDEN:
                return projection(b, gate, lane)
            if self.bias is None:
                return tirx.const(0, run.dtype)
            return self.bias(place.direction, run.unit(place, lane))

        for first, count in run.sequences(3):
            sums = run.sums(place, first, count, (UPDATE, RESET, HIDDEN), start, run.state(place))
            for row in range(count):
                self._finish_linear(place, first + row, sums, row)

    def _finish_linear(self, place: Place, b: Expr, sums: Memory, row: int) -> None:
        run, f = self.recurrence, self.activations[0]
        projection = run.projection(place)
        for gate in (UPDATE, RESET):
            with T.vectorized(0, run.sizes.lanes) as lane:
                sums.store(f(clipped(sums[row, gate, lane], self.clip)), row, gate, lane)
        self._mix(
            place,
            b,
            lambda lane: sums[row, UPDATE, lane],
            lambda lane: projection(b, HIDDEN, lane) + sums[row, RESET, lane] * sums[row, HIDDEN, lane],
        )

    def _mix(self, place: Place, b: Expr, update: Read, candidate: Read) -> None:
        """h' = (1 - z) n + z h"""
        run, g = self.recurrence, self.activations[1]

        def value(lane: Expr) -> Expr:
            z, n = update(lane), g(clipped(candidate(lane), self.clip))
            return (one(z) - z) * n + z * run.state(place)(b, run.unit(place, lane))

        run.finish(place, b, value)


@dataclass(frozen=True)
class RNN:
    recurrence: Recurrence
    activations: tuple[Activation, ...]
    clip: float

    @property
    def phases(self) -> Sequence[Phase]:
        return (self._step,)

    def _step(self, place: Place) -> None:
        run = self.recurrence
        for first, count in run.sequences(1):
            sums = run.sums(place, first, count, (0,), run.projection(place), run.state(place))
            for row in range(count):
                self._cell(place, first + row, sums, row)

    def _cell(self, place: Place, b: Expr, sums: Memory, row: int) -> None:
        f = self.activations[0]
        self.recurrence.finish(place, b, lambda lane: f(clipped(sums[row, 0, lane], self.clip)))


def clipped(x: Expr, limit: float) -> Expr:
    """x within [-limit, limit]; a limit of 0 is none."""
    if not limit:
        return x
    bound = tirx.const(limit, dtype_of(x))
    return tirx.max(tirx.min(x, bound), -bound)


def one(x: Expr) -> Expr:
    return tirx.const(1, dtype_of(x))

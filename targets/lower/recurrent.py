"""LSTM, GRU and RNN as whole kernels: ONNX's operators with all their options, standard or with packed weights.

Sums and states are float32, or float64 for operands of that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.errors import UnsupportedError
from graphopt.ir import KERNEL, Node
from graphopt.targets.lower.kernel import Memory, Writer, write_kernel
from graphopt.targets.lower.recurrent_activations import Activation, activations_of
from graphopt.targets.lower.recurrent_cells import GRU, LSTM, RNN
from graphopt.targets.lower.recurrent_layout import GATES, Sizes, sizes_of
from graphopt.targets.lower.recurrent_loop import Read, Recurrence, project, split
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import Expr, storage, wide_dtype

X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLE = range(8)
"""The operands. INITIAL_C and PEEPHOLE are LSTM's."""

Y, Y_H, Y_C = range(3)
"""The results."""

BACKWARD = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

ACTIVATIONS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}
"""ONNX's defaults, for one direction."""


def recurrent(node: Node) -> tirx.PrimFunc:
    """The kernel of LSTM, GRU or RNN. Raises UnsupportedError for what ONNX does not define."""
    sizes = sizes_of(node)
    direction = node.str("direction", "forward")
    if len(BACKWARD.get(direction, ())) != sizes.directions:
        raise UnsupportedError(
            f"direction '{direction}' does not go with {sizes.directions} directions of weights",
            where=where(node),
        )
    if not sizes.steps or not sizes.hidden:
        raise UnsupportedError("it has no steps or no hidden units", where=where(node))
    activations = activations_of(node, ACTIVATIONS[node.op_type], sizes.directions)
    return write_kernel(
        node, lambda writer: _Kernel(node, sizes, writer).write(BACKWARD[direction], activations)
    )


@dataclass(frozen=True)
class _Kernel:
    """The statements of one node's kernel."""

    node: Node
    sizes: Sizes
    writer: Writer

    @property
    def dtype(self) -> str:
        x = self.node.input(X)
        assert x is not None
        return wide_dtype(storage(x.dtype))

    def write(self, backward: tuple[bool, ...], activations: list[tuple[Activation, ...]]) -> None:
        sizes, writer = self.sizes, self.writer
        run = self._recurrence(backward)
        cell = self._buffer(*sizes.state_shape) if self.node.op_type == "LSTM" else None
        self._read_state(INITIAL_H, lambda value, *at: run.hidden.store(value, 0, *at))
        if cell is not None:
            self._read_state(INITIAL_C, lambda value, *at: cell.store(value, *at))
        directions = range(sizes.directions)
        alike = all(chosen == activations[0] for chosen in activations)
        for group in [directions] if alike else [(d,) for d in directions]:
            run.run(self._cell(run, activations[group[0]], cell).phases, group)
        last = sizes.steps % 2
        self._write_state(writer.optional_result(Y_H), lambda *at: run.hidden[(last, *at)])
        if cell is not None:
            self._write_state(writer.optional_result(Y_C), lambda *at: cell[at])

    def _recurrence(self, backward: tuple[bool, ...]) -> Recurrence:
        sizes, writer = self.sizes, self.writer
        projected = self._buffer(
            sizes.directions, sizes.steps * sizes.batch, sizes.tiles, sizes.gates, sizes.lanes
        )
        project(writer, sizes, writer.operand(X), self._input_weights(), self._bias(), projected)
        lengths = writer.optional_operand(LENGTHS)
        return Recurrence(
            writer,
            sizes,
            self.dtype,
            self._recurrent_weights(),
            None if lengths is None else lambda b: lengths[b],
            backward,
            writer.optional_result(Y),
            projected,
            self._buffer(2, *sizes.state_shape),
        )

    def _cell(
        self, run: Recurrence, activations: tuple[Activation, ...], cell: Memory | None
    ) -> GRU | LSTM | RNN:
        node, clip = self.node, self.node.float("clip")
        if node.op_type == "RNN":
            return RNN(run, activations, clip)
        if node.op_type == "LSTM":
            assert cell is not None
            return LSTM(run, activations, clip, cell, self._peepholes(), bool(node.int("input_forget")))
        if node.int("linear_before_reset"):
            return GRU(run, activations, clip, self._candidate_bias(), None, None)
        shape = self.sizes.state_shape
        return GRU(run, activations, clip, None, self._buffer(*shape), self._buffer(*shape))

    def _buffer(self, *shape: int) -> Memory:
        return self.writer.scratch(shape, self.dtype)

    # --- weights and biases: the hidden units of a gate, padded to whole tiles ---

    def _input_weights(self) -> Read:
        """W by (direction, tile, gate, input, lane)."""
        sizes = self.sizes
        return self._by_tile(W, (sizes.gates, sizes.inputs), lambda gate, column: (gate, column))

    def _recurrent_weights(self) -> Read:
        """R by (direction, tile, hidden unit, gate, lane)."""
        sizes = self.sizes
        return self._by_tile(R, (sizes.hidden, sizes.gates), lambda column, gate: (gate, column))

    def _by_tile(self, operand: int, extents: tuple[int, int], place: Callable[..., tuple]) -> Read:
        """Weights by (direction, tile, outer, inner, lane), packed here unless they came so.

        `place` tells gate and column from outer and inner, whose `extents` are given.
        """
        weights, sizes = self.writer.operand(operand), self.sizes
        if self.node.domain == KERNEL and self._rank(operand) > 3:
            return lambda *at: weights[at]
        buffer = self._buffer(sizes.directions, sizes.tiles, *extents, sizes.lanes)
        work = sizes.directions * sizes.padded * math.prod(extents)
        with self.writer.each(sizes.directions * sizes.tiles, work=work) as index:
            d, tile = split(index, sizes.tiles)
            with T.grid(*extents, sizes.lanes) as (outer, inner, lane):
                gate, column = place(outer, inner)
                value = self._if_unit(tile, lane, lambda unit: weights[d, gate * sizes.hidden + unit, column])
                buffer.store(value, d, tile, outer, inner, lane)
        return lambda *at: buffer[at]

    def _bias(self) -> Read:
        """Wb + Rb by (direction, tile, gate, lane); the gate of `_candidate_bias` has Wb alone."""
        b, sizes = self.writer.optional_operand(B), self.sizes
        if b is None:
            return lambda *_: tirx.const(0, self.dtype)
        separate = self.node.op_type == "GRU" and self.node.int("linear_before_reset")
        buffer = self._buffer(sizes.directions, sizes.tiles, sizes.gates, sizes.lanes)
        for gate in range(sizes.gates):

            def both(d: Expr, unit: Expr, gate: int = gate) -> Expr:
                of_input = b[d, gate * sizes.hidden + unit]
                if separate and gate == sizes.gates - 1:
                    return of_input
                return self._wide(of_input) + self._wide(b[d, (sizes.gates + gate) * sizes.hidden + unit])

            with T.grid(sizes.directions, sizes.tiles, sizes.lanes) as (d, tile, lane):
                value = self._if_unit(tile, lane, partial(both, d))
                buffer.store(value, d, tile, gate, lane)
        return lambda *at: buffer[at]

    def _candidate_bias(self) -> Read | None:
        """The recurrent bias of GRU's candidate by (direction, unit): it is added before the reset gate."""
        b, sizes = self.writer.optional_operand(B), self.sizes
        if b is None:
            return None
        start = (2 * sizes.gates - 1) * sizes.hidden
        return self._padded(1, lambda d, _, unit: b[d, start + unit], lambda d, unit: (d, 0, unit))

    def _peepholes(self) -> Read | None:
        """P by (direction, peephole, unit)."""
        p, hidden = self.writer.optional_operand(PEEPHOLE), self.sizes.hidden
        if p is None:
            return None
        return self._padded(3, lambda d, number, unit: p[d, number * hidden + unit], lambda *at: at)

    def _padded(self, rows: int, value: Read, place: Callable[..., tuple]) -> Read:
        """`value` of (direction, row, unit) in a buffer with whole tiles, which is read at `place`."""
        sizes = self.sizes
        buffer = self._buffer(sizes.directions, rows, sizes.padded)
        with T.grid(sizes.directions, rows, sizes.padded) as (d, row, unit):
            buffer.store(self._if_unit(0, unit, lambda unit: value(d, row, unit)), d, row, unit)
        return lambda *at: buffer[place(*at)]

    # --- states ---

    def _read_state(self, index: int, put: Callable[..., None]) -> None:
        """`put(value, direction, sequence, unit)` of an initial state, which is zero when left out."""
        sizes, source = self.sizes, self.writer.optional_operand(index)
        with T.grid(*sizes.state_shape) as (d, b, unit):
            if source is None:
                put(tirx.const(0, self.dtype), d, b, unit)
            else:
                at = (b, d) if sizes.batch_first else (d, b)
                put(self._if_unit(0, unit, lambda unit: source[(*at, unit)]), d, b, unit)

    def _write_state(self, target: Memory | None, state: Read) -> None:
        """The state after the last step; that of a sequence without steps is zero, as in ONNX Runtime."""
        sizes, lengths = self.sizes, self.writer.optional_operand(LENGTHS)
        if target is None:
            return
        with T.grid(sizes.directions, sizes.batch, sizes.hidden) as (d, b, unit):
            at = (b, d) if sizes.batch_first else (d, b)
            value = state(d, b, unit)
            if lengths is not None:
                value = tirx.Select(lengths[b] > 0, value, tirx.const(0, self.dtype))
            target.store(value.astype(target.dtype), *at, unit)

    def _if_unit(self, tile: Expr | int, lane: Expr, value: Callable[[Expr], Expr]) -> Expr:
        """`value` of a hidden unit; zero in what fills up the last tile."""
        sizes = self.sizes
        unit = tile * sizes.lanes + lane
        found = self._wide(value(unit))
        if sizes.padded == sizes.hidden:
            return found
        return tirx.if_then_else(unit < sizes.hidden, found, tirx.const(0, self.dtype))

    def _wide(self, value: Expr) -> Expr:
        return value.astype(self.dtype)

    def _rank(self, index: int) -> int:
        value = self.node.input(index)
        assert value is not None
        return len(value.static_shape)


OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {
    **dict.fromkeys(GATES, recurrent),
    **dict.fromkeys((f"{KERNEL}::{name}" for name in GATES), recurrent),
}
"""The packed operators are those of `graphopt.targets.pack_weights`."""

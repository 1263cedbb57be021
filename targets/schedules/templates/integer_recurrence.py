"""LSTM and GRU of bytes: `graphopt.quant`, by `recurrence_kernel`. The contract: `passes/recognize_recurrence.py`.

The columns of the recurrent weights are packed in panels that hold all gates of their hidden units:

    [hidden, gates * hidden]  -->  panels of [gates, units], as `integer_panels` packs them

so that a tile has the sums of all gates in registers, hidden units in lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.ir import QUANT, Graph, Node, Value
from graphopt.targets.device import Target
from graphopt.targets.lower.recurrent_layout import GATES
from graphopt.targets.schedules.templates.dot import Dot, tile_of
from graphopt.targets.schedules.templates.integer_panels import Panels, Reading, readings
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel
from graphopt.targets.schedules.templates.recurrence_kernel import (
    BIAS,
    INITIAL_H,
    SCALE,
    R,
    RecurrenceKernel,
    Shape,
    X,
)

UNITS = (1, 2, 4)
"""Vectors of hidden units in a tile: powers of two, so that what a tile stores is one vector."""


@dataclass(frozen=True)
class IntegerRecurrence:
    """A recurrence of bytes, alone in its group."""

    body: Graph
    anchor: Node
    target: Target
    readings: tuple[Reading, ...]
    name: str = "integer-recurrence"

    @classmethod
    def match(
        cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target
    ) -> IntegerRecurrence | None:
        (anchor, *others) = body.nodes
        if others or not anchor.is_op(*GATES, domain=QUANT):
            return None
        known = {body.inputs[number]: data for number, data in constants.items()}
        weights, h = anchor.inputs[R], anchor.inputs[INITIAL_H]
        if not all(anchor.inputs[index] in known for index in (R, BIAS, SCALE)):
            return None
        assert weights is not None and h is not None
        return cls(body, anchor, target, readings(target, h.dtype.label, known[weights]))

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {
            "dot": range(len(self.readings)),
            "columns": range(1, min(self.batch, self.target.vector_registers) + 1),
            "units": UNITS,
        }

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """The way to read, rows and vectors of hidden units of a tile that take the fewest estimated cycles."""
        known = like if like is not None and like["dot"] < len(self.readings) else None
        found = []
        for number in [known["dot"]] if known else range(len(self.readings)):
            dot = self.readings[number].dot
            units = [known["units"]] if known else self._units(dot)
            vectors = self.gates * -(-self.hidden // dot.lanes)
            tile = tile_of(dot, self.batch, vectors, self.target, [self.gates * n for n in units])
            found.append((tile.cycles * -(-self.hidden // dot.depth), number, tile))
        _, number, tile = min(found, key=lambda choice: choice[:2])
        return {"dot": number, "columns": tile.columns, "units": tile.vectors // self.gates}

    def _units(self, dot: Dot) -> list[int]:
        """Vectors of hidden units that a tile may have: as many as fit into registers, and into the layer."""
        registers = self.target.vector_registers
        most = -(-self.hidden // dot.lanes)
        fitting = [n for n in UNITS if n <= most and dot.registers(1, self.gates * n) <= registers]
        return fitting or [1]

    @property
    def gates(self) -> int:
        return GATES[self.anchor.op_type]

    @property
    def batch(self) -> int:
        return self._operand(X).static_shape[1]

    @property
    def hidden(self) -> int:
        return self._operand(R).static_shape[0]

    def _operand(self, index: int) -> Value:
        value = self.anchor.inputs[index]
        assert value is not None
        return value

    def _number(self, index: int) -> int:
        """Which of the body's inputs an operand is."""
        return self.body.inputs.index(self._operand(index))

    def _shape(self, decision: Mapping[str, int]) -> Shape:
        reading, units = self.readings[decision["dot"]], decision["units"]
        wide = units * reading.dot.lanes
        tiles = -(-self.hidden // wide)
        width = tiles * self.gates * wide
        panels = Panels(reading.dot, self.hidden, width, self.gates * units, self._operand(R).dtype.bits)
        return Shape(panels, self.gates, wide, decision["columns"], reading.shift)

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The weights and all of the bias in panels, the scale in their order; nothing is left of the bias itself."""
        shape = self._shape(decision)
        zero = self.anchor.int("h_zero_point") + shape.shift
        weights, bias, scale = (shape.by_tile(constants[self._number(index)]) for index in (R, BIAS, SCALE))
        return {
            self._number(R): shape.panels.pack(weights, bias, zero),
            self._number(BIAS): np.zeros(1, np.int32),
            self._number(SCALE): scale,
        }

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        shape = self._shape(decision)
        panels = shape.panels
        sizes = {
            self._number(R): panels.count * panels.elements,
            self._number(BIAS): 1,
            self._number(SCALE): panels.width,
        }

        def emit(buffers: Buffers) -> None:
            RecurrenceKernel(self.anchor, shape, buffers).emit()

        return build_kernel(self.body, emit, sizes)

"""ARM's products of small matrices (SMMLA, USMMLA): 2 columns x 8 channels times 8 channels x 2 outputs.

    sums = column 0, output 0 | column 0, output 1 | column 1, output 0 | column 1, output 1

Two columns share a register of inputs; what is missing beside a last, single one is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, busiest, intrinsic, places
from graphopt.targets.schedules.templates.dot.pointer import Pointer

ROWS = 2
"""Columns, or outputs, that an instruction takes."""

EIGHT = 8
LANES = 4
TEMPORARIES = 6
"""Registers for weights and inputs on the way."""

REGISTER = 16
FUNCTIONS = {"int8": "llvm.aarch64.neon.smmla.v4i32.v16i8", "uint8": "llvm.aarch64.neon.usmmla.v4i32.v16i8"}
"""By the type of the inputs."""


@dataclass(frozen=True)
class MatrixDot(Dot):
    """Weights int8, inputs int8 or uint8; `depth` is 16 or 8."""

    name: ClassVar[str] = "smmla"

    @property
    def load_lanes(self) -> int:
        return REGISTER

    def pack(self, weights: np.ndarray) -> np.ndarray:
        leading = weights.shape[:-2]
        split = weights.reshape(*leading, LANES // ROWS, ROWS, self.depth // EIGHT, EIGHT)
        return np.ascontiguousarray(np.moveaxis(split, -2, -4)).reshape(*leading, -1)

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        size = -(-columns // ROWS) * vectors * ROWS * LANES
        sums = Sums(T.alloc_buffer((size,), "int32", scope="local"), columns, vectors)
        for column, vector in places(sums):
            for pair in range(ROWS):
                start = tirx.Broadcast(tirx.const(0, "int32"), LANES)
                if bias is not None:
                    both = (bias + vector * LANES + pair * ROWS).load(ROWS)
                    start = tirx.Shuffle([both, both], list(range(LANES)))
                if column % ROWS == 0:
                    self._square(sums, column, vector, pair).store(start)
        return sums

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for column in range(0, sums.columns, ROWS):
            both = [*inputs[column : column + ROWS], None][:ROWS]
            known = next((x for x in both if x is not None), None)
            if known is None:
                continue
            function = FUNCTIONS[known.dtype]
            rows = [self._row(x, known) for x in both]
            for half in range(self.depth // EIGHT):
                lower = list(range(half * EIGHT, (half + 1) * EIGHT))
                factor = tirx.Shuffle(rows, [*lower, *(self.depth + k for k in lower)])
                for vector in range(sums.vectors):
                    for pair in range(ROWS):
                        total = self._square(sums, column, vector, pair)
                        place = vector * self.step_bytes + (half * ROWS + pair) * REGISTER
                        other = (weights + place).load(REGISTER)
                        total.store(intrinsic(function, "int32x4", total.load(LANES), factor, other))

    def _row(self, x: Pointer | None, like: Pointer) -> Expr:
        """The inputs of a column; zeros where it has none."""
        if x is None:
            return tirx.Broadcast(tirx.const(0, like.dtype), self.depth)
        return x.load(self.depth)

    def _square(self, sums: Sums, column: int, vector: int, pair: int) -> Pointer:
        number = (column // ROWS * sums.vectors + vector) * ROWS + pair
        return Pointer(sums.buffer, number * LANES)

    def results(self, sums: Sums) -> tirx.Var:
        found = T.alloc_buffer((sums.columns * sums.vectors * LANES,), "int32", scope="local")
        for column, vector in places(sums):
            squares = [self._square(sums, column, vector, pair).load(LANES) for pair in range(ROWS)]
            first = column % ROWS * ROWS
            chosen = tirx.Shuffle(squares, [first, first + 1, LANES + first, LANES + first + 1])
            Pointer(found, (column * sums.vectors + vector) * LANES).store(chosen)
        return found

    def registers(self, columns: int, vectors: int) -> int:
        pairs = -(-columns // ROWS)
        return pairs * vectors * ROWS + pairs * (self.depth // EIGHT) + TEMPORARIES

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        halves, pairs = self.depth // EIGHT, -(-columns // ROWS)
        arithmetic = halves * pairs * (vectors * ROWS + 1) / target.fma_per_cycle
        return busiest(arithmetic, columns + halves * vectors * ROWS, target)

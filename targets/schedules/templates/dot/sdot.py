"""ARM's dot product by element: four channels of an input, picked from a register, times four of each output (SDOT).

Only the last operand of LLVM's intrinsic folds into the instruction that picks an element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, busiest, interleaved, intrinsic
from graphopt.targets.schedules.templates.dot.pointer import Pointer

QUAD, LANES = 4, 4
TEMPORARIES = 2
"""Registers for weights on the way: they are loaded in pairs."""

LATENCY = 1
"""Cycles from one sum to the next: the accumulator is forwarded."""


@dataclass(frozen=True)
class ElementDot(Dot):
    """Weights and inputs int8; `depth` is 4, 8 or 16."""

    name: ClassVar[str] = "sdot"

    @property
    def load_lanes(self) -> int:
        return QUAD * LANES

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, QUAD)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for quad in range(self.depth // QUAD):
            for vector in range(sums.vectors):
                factor = (weights + vector * self.step_bytes + quad * QUAD * LANES).load(QUAD * LANES)
                for column, x in enumerate(inputs):
                    if x is None:
                        continue
                    total = self.sum_at(sums, column, vector)
                    picked = _element(x.load(self.depth), self.depth // QUAD, quad)
                    total.store(
                        intrinsic(
                            "llvm.aarch64.neon.sdot.v4i32.v16i8", "int32x4", total.load(LANES), factor, picked
                        )
                    )

    def registers(self, columns: int, vectors: int) -> int:
        return columns * vectors + columns + vectors + TEMPORARIES

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        quads = self.depth // QUAD
        arithmetic = quads * max(columns * vectors / target.fma_per_cycle, LATENCY)
        return busiest(arithmetic, quads * vectors + columns, target)


def _element(x: Expr, quads: int, number: int) -> Expr:
    """The 4 bytes of number `number` in all lanes."""
    if quads == 1:
        return tirx.reinterpret("int8x16", tirx.Broadcast(tirx.reinterpret("int32", x), LANES))
    words = tirx.reinterpret(f"int32x{quads}", x)
    return tirx.reinterpret("int8x16", tirx.Broadcast(tirx.Shuffle([words], [number]), LANES))

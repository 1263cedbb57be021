"""x86: products of int16 pairs, added to int32 (pmaddwd, paddd; LLVM makes vpdpwssd of both where there is VNNI).

The products of bytes as pmaddubsw makes them saturate at 16 bits; those of int16 do not. Weights stay bytes in memory
and are widened as they are loaded (pmovsxbw). Bytes of inputs are widened once, by the kernel, and broadcast pair by
pair; inputs of 16 bits are read as they are. Two products fit 32 bits unless all four factors are -2^15, and then sums
wrap around and come right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, busiest, interleaved, intrinsic
from graphopt.targets.schedules.templates.dot.pointer import Pointer

PAIR = 2
NARROWEST = 4
"""Lanes of SSE, whose instructions write over an operand: one register more is on its way."""

INTRINSICS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""By the number of lanes."""


@dataclass(frozen=True)
class PairDot(Dot):
    """Weights int8 or int16, inputs int16."""

    name: ClassVar[str] = "pmaddwd"

    def read_as(self, dtype: str) -> str:
        return "int16"

    @property
    def load_lanes(self) -> int:
        return PAIR * self.lanes

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, PAIR)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for pair in range(self.depth // PAIR):
            for column, x in enumerate(inputs):
                if x is None:
                    continue
                for vector in range(sums.vectors):
                    place = weights + (vector * self.step_bytes + pair * PAIR * self.lanes)
                    factor = place.load_as("int16", PAIR * self.lanes)
                    self._multiply_add(self.sum_at(sums, column, vector), x + pair * PAIR, factor)

    def _multiply_add(self, total: Pointer, x: Pointer, factor: tirx.Expr) -> None:
        both = tirx.reinterpret("int32", x.load(PAIR))
        wide = f"int16x{PAIR * self.lanes}"
        spread = tirx.reinterpret(wide, tirx.Broadcast(both, self.lanes))
        products = intrinsic(INTRINSICS[self.lanes], f"int32x{self.lanes}", spread, factor)
        total.store(total.load(self.lanes) + products)

    def registers(self, columns: int, vectors: int) -> int:
        return columns * vectors + vectors + (2 if self.lanes > NARROWEST else 3)

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        arithmetic = (2 * columns * vectors + vectors) / (2 * target.fma_per_cycle)
        return self.depth // PAIR * busiest(arithmetic, columns + vectors, target)

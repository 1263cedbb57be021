"""x86 with VNNI: four bytes of an input, broadcast from memory, times four of each output (vpdpbusd).

It takes unsigned inputs and signed weights. AVX-512 has it for 16 and for 8 lanes, AVX-VNNI for 8.
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

QUAD = 4


@dataclass(frozen=True)
class QuadDot(Dot):
    """Weights int8, inputs uint8. `emulated` computes the same on any machine, slowly, to test what drives it."""

    emulated: bool = False
    name: ClassVar[str] = "vpdpbusd"

    @property
    def load_lanes(self) -> int:
        return QUAD * self.lanes

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, QUAD)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for quad in range(self.depth // QUAD):
            for column, x in enumerate(inputs):
                if x is None:
                    continue
                for vector in range(sums.vectors):
                    factor = weights + (vector * self.step_bytes + quad * QUAD * self.lanes)
                    self._multiply_add(self.sum_at(sums, column, vector), x + quad * QUAD, factor)

    def _multiply_add(self, total: Pointer, x: Pointer, factor: Pointer) -> None:
        add = self._written_out if self.emulated else self._instruction
        total.store(add(total, x, factor))

    def _instruction(self, total: Pointer, x: Pointer, factor: Pointer) -> Expr:
        lanes, wide = self.lanes, f"int8x{QUAD * self.lanes}"
        quad = tirx.reinterpret("int32", x.load(QUAD))
        spread = tirx.reinterpret(wide, tirx.Broadcast(quad, lanes))
        return vpdpbusd(total.load(lanes), spread, factor.load(QUAD * lanes))

    def _written_out(self, total: Pointer, x: Pointer, factor: Pointer) -> Expr:
        lanes, whole = self.lanes, factor.load(QUAD * self.lanes)
        result = total.load(lanes)
        for byte in range(QUAD):
            value = tirx.Broadcast((x + byte).element().astype("int32"), lanes)
            picked = tirx.Shuffle([whole], list(range(byte, QUAD * lanes, QUAD)))
            result = result + value * picked.astype(f"int32x{lanes}")
        return result

    def registers(self, columns: int, vectors: int) -> int:
        return columns * vectors + vectors + 1

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        arithmetic = max(columns * vectors / target.fma_per_cycle, target.fma_latency)
        return self.depth // QUAD * busiest(arithmetic, columns + vectors, target)


def vpdpbusd(total: Expr, x: Expr, factor: Expr) -> Expr:
    """int32 plus the products of four neighbours each, of unsigned and signed bytes."""
    lanes = total.ty.dtype.lanes
    return intrinsic(f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", f"int32x{lanes}", total, x, factor)

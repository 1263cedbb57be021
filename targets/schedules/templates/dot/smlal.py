"""ARM without dot products: 16 channels of an input times 16 of one output (SMULL, SMLAL2, SADALP).

Two products of bytes are added in 16 bits, which they fit where no weight is -128; pairs of those to four partial sums
of 32 bits. They are added to each other when the results are read. With 8 channels there is nothing to add in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, busiest, intrinsic, places
from graphopt.targets.schedules.templates.dot.pointer import Pointer

LANES = 4
PARTS = 4
"""Partial sums of an output: a register."""

HALF = 8


@dataclass(frozen=True)
class Architecture:
    """LLVM's functions: products of 8 bytes; pairs of them added in 32 bits, `onto` a sum or alone.

    `temporaries` are registers for products and weights on the way, as the compiler orders them.
    """

    product: str
    paired: str
    onto: bool
    temporaries: int


A64 = Architecture(
    "llvm.aarch64.neon.smull.v8i16", "llvm.aarch64.neon.saddlp.v4i32.v8i16", onto=False, temporaries=8
)
A32 = Architecture(
    "llvm.arm.neon.vmulls.v8i16", "llvm.arm.neon.vpadals.v4i32.v8i16", onto=True, temporaries=6
)


@dataclass(frozen=True)
class WideningDot(Dot):
    """Weights and inputs int8; `depth` is 16, where no weight is -128, or 8."""

    architecture: Architecture = A64

    @property
    def name(self) -> str:  # type: ignore[override]
        return "smlal" if self.depth > HALF else "smull"

    @property
    def load_lanes(self) -> int:
        return self.depth

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(weights).reshape(*weights.shape[:-2], -1)

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        size = columns * vectors * LANES * PARTS
        sums = Sums(T.alloc_buffer((size,), "int32", scope="local"), columns, vectors, bias)
        for start in range(0, size, PARTS):
            Pointer(sums.buffer, start).store(tirx.Broadcast(tirx.const(0, "int32"), PARTS))
        return sums

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for vector in range(sums.vectors):
            for lane in range(LANES):
                row = weights + (vector * self.step_bytes + lane * self.depth)
                for column, x in enumerate(inputs):
                    if x is not None:
                        total = self._parts(sums, column, vector, lane)
                        total.store(self._added(total.load(PARTS), self._products(x, row)))

    def _products(self, x: Pointer, row: Pointer) -> Expr:
        """Eight sums of as many products as there are halves."""
        both = x.load(self.depth), row.load(self.depth)
        halves = [
            intrinsic(self.architecture.product, f"int16x{HALF}", *(_half(vector, first) for vector in both))
            for first in range(0, self.depth, HALF)
        ]
        return sum(halves[1:], halves[0])

    def _added(self, total: Expr, products: Expr) -> Expr:
        """Neighbouring products added to the sums."""
        name, dtype = self.architecture.paired, f"int32x{PARTS}"
        if self.architecture.onto:
            return intrinsic(name, dtype, total, products)
        return total + intrinsic(name, dtype, products)

    def _parts(self, sums: Sums, column: int, vector: int, lane: int) -> Pointer:
        number = (column * sums.vectors + vector) * LANES + lane
        return Pointer(sums.buffer, number * PARTS)

    def results(self, sums: Sums) -> tirx.Var:
        found = T.alloc_buffer((sums.columns * sums.vectors * LANES,), "int32", scope="local")
        for column, vector in places(sums):
            lanes = [self._parts(sums, column, vector, lane).load(PARTS) for lane in range(LANES)]
            total = _paired(_paired(*lanes[:2]), _paired(*lanes[2:]))
            if sums.bias is not None:
                total = total + (sums.bias + vector * LANES).load(LANES)
            Pointer(found, (column * sums.vectors + vector) * LANES).store(total)
        return found

    def registers(self, columns: int, vectors: int) -> int:
        return columns * vectors * LANES + columns + self.architecture.temporaries

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        outputs = columns * vectors * LANES
        arithmetic = (self.depth // HALF + 1) * outputs / target.fma_per_cycle
        return busiest(arithmetic, columns + vectors * LANES, target)


def _half(vector: Expr, first: int) -> Expr:
    return tirx.Shuffle([vector], list(range(first, first + HALF)))


def _paired(a: Expr, b: Expr) -> Expr:
    """Sums of neighbours, those of `a` before those of `b`."""
    even, odd = (tirx.Shuffle([a, b], list(range(first, 2 * PARTS, 2))) for first in (0, 1))
    return even + odd

"""ARM's products of int16 by lane: a channel of an input, picked from a register, times 4 outputs (SMLAL, VMLAL.S16).

Weights stay bytes in memory. Those of two channels are widened together as they are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, busiest, interleaved, intrinsic
from graphopt.targets.schedules.templates.dot.pointer import Pointer

LANES = 4
PAIR = 2
"""Channels whose weights are loaded together: a register of int16."""

EIGHT = 8
"""Numbers of int16 in a register."""

TEMPORARIES = 2
"""Registers for weights on the way."""

TOO_MANY = 1 << 10
"""Registers that no machine has: of a tile that it cannot compute."""


@dataclass(frozen=True)
class Architecture:
    """LLVM's function for products of 4 int16, and how many registers lanes can be picked from."""

    product: str
    picked: int


A64 = Architecture("llvm.aarch64.neon.smull.v4i32", picked=16)
A32 = Architecture("llvm.arm.neon.vmulls.v4i32", picked=4)


@dataclass(frozen=True)
class LaneDot(Dot):
    """Weights int8 or int16, inputs int16; `depth` is 8 or 4."""

    architecture: Architecture = A64

    @property
    def name(self) -> str:  # type: ignore[override]
        return "smlal-by-lane"

    def read_as(self, dtype: str) -> str:
        return "int16"

    @property
    def load_lanes(self) -> int:
        return PAIR * LANES

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, 1)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for pair in range(self.depth // PAIR):
            for vector in range(sums.vectors):
                place = weights + (vector * self.step_bytes + pair * PAIR * LANES)
                both = place.load_as("int16", PAIR * LANES)
                for half in range(PAIR):
                    factor = tirx.Shuffle([both], list(range(half * LANES, (half + 1) * LANES)))
                    for column, x in enumerate(inputs):
                        if x is not None:
                            picked = tirx.Shuffle([x.load(self.depth)], [pair * PAIR + half] * LANES)
                            product = intrinsic(self.architecture.product, "int32x4", factor, picked)
                            total = self.sum_at(sums, column, vector)
                            total.store(total.load(LANES) + product)

    def registers(self, columns: int, vectors: int) -> int:
        inputs = -(-columns * self.depth // EIGHT)
        if inputs > self.architecture.picked:
            return TOO_MANY
        return columns * vectors + inputs + TEMPORARIES

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        arithmetic = self.depth * (columns * vectors + vectors / PAIR) / target.fma_per_cycle
        return busiest(arithmetic, self.depth // PAIR * vectors + columns, target)

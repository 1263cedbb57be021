"""Any machine, any types of bytes: lanes of int32, for the compiler to find instructions for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums, interleaved
from graphopt.targets.schedules.templates.dot.pointer import Pointer


@dataclass(frozen=True)
class PortableDot(Dot):
    """Weights and inputs of any integer type."""

    name: ClassVar[str] = "portable"

    @property
    def load_lanes(self) -> int:
        return self.lanes

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return interleaved(weights, 1)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        wide = f"int32x{self.lanes}"
        for k in range(self.depth):
            for column, x in enumerate(inputs):
                if x is None:
                    continue
                value = tirx.Broadcast((x + k).element().astype("int32"), self.lanes)
                for vector in range(sums.vectors):
                    factor = (weights + vector * self.step_bytes + k * self.lanes).load(self.lanes)
                    total = self.sum_at(sums, column, vector)
                    total.store(total.load(self.lanes) + value * factor.astype(wide))

    def registers(self, columns: int, vectors: int) -> int:
        return columns * vectors + vectors + 2

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        return self.depth * (2 * columns * vectors + 2 * vectors + columns) / target.fma_per_cycle

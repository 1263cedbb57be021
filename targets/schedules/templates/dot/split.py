"""Weights of 9 bits: what is left of a byte when a zero point is taken off it, as the sum of two bytes.

    sum over k of x[k] w[k]  =  sum over k of x[k] (w[k] / 2)  +  sum over k of x[k] (w[k] - w[k] / 2)

Instructions that multiply bytes do so twice, with the same inputs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums
from graphopt.targets.schedules.templates.dot.pointer import Pointer

HALVES = 2


@dataclass(frozen=True)
class _Bytes(Pointer):
    """int8 in a buffer of int16; `offset` counts bytes."""

    def load(self, lanes: int, stride: int = 1) -> Expr:
        assert stride == 1
        words = Pointer(self.buffer, tirx.indexdiv(self.offset, HALVES)).load(lanes // HALVES)
        return tirx.reinterpret(f"int8x{lanes}", words)


@dataclass(frozen=True)
class SplitDot(Dot):
    """Weights int16, of which `halves` makes bytes; inputs as those of `whole`, which multiplies bytes."""

    whole: Dot = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, dot: Dot) -> SplitDot:
        return cls(dot.lanes, dot.depth, whole=dataclasses.replace(dot, spacing=HALVES))

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.whole.name}-twice"

    def read_as(self, dtype: str) -> str:
        return self.whole.read_as(dtype)

    def pack(self, weights: np.ndarray) -> np.ndarray:
        packed = [self.whole.pack(half) for half in halves(weights)]
        return np.ascontiguousarray(np.concatenate(packed, axis=-1)).view(np.int16)

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        return self.whole.begin(columns, vectors, bias)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        for half in range(HALVES):
            place = weights.offset * HALVES + half * self.lanes * self.depth
            self.whole.step(sums, inputs, _Bytes(weights.buffer, place))

    def results(self, sums: Sums) -> tirx.Var:
        return self.whole.results(sums)

    def registers(self, columns: int, vectors: int) -> int:
        return self.whole.registers(columns, vectors)

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        return HALVES * self.whole.cycles(columns, vectors, target)


def halves(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of int8 whose sum are the weights, of which none is below -255 or above 254."""
    half = np.trunc(weights / HALVES).astype(np.int8)
    return half, (weights - half).astype(np.int8)


def fits_halves(weights: np.ndarray) -> bool:
    low, high = np.iinfo(np.int8).min, np.iinfo(np.int8).max
    return weights.dtype == np.int16 and bool((weights > 2 * low).all() and (weights <= 2 * high).all())

"""Weights of 4 bits, two in a byte, unpacked in registers: what a channel's weights are above the least of them.

    w[channel][k]  =  least[channel] + u,   0 <= u < 16        so zero points need not be told from integers

Of two loads of weights that the instruction takes, one lies in the lower bits of as many bytes as one has, the other in
the upper bits. A mask or a shift and an addition make bytes of them, which are multiplied as ever. Source of the
arrangement: the 4-bit kernels of XNNPACK and of llama.cpp.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import Dot, Inputs, Sums
from graphopt.targets.schedules.templates.dot.pointer import Pointer

BITS, LEVELS, LOWER = 4, 16, 15

SLOWER = 1.25
"""Weights of 4 bits stay so unless a kernel is estimated to take more than so many times as long with them."""

OPERATIONS = 2.5
"""For a load of weights, on average: mask or shift (bytes have none on x86, where it is two), and the addition."""


@dataclass(frozen=True)
class _Nibbles(Pointer):
    """Two weights in a byte of `buffer` from `offset` on; `place` counts the weights behind it, a known number."""

    place: int = 0
    least: tuple[Expr, ...] = ()
    channels: tuple[int, ...] = ()

    def __add__(self, elements: Expr | int) -> _Nibbles:
        return dataclasses.replace(self, place=self.place + int(elements))

    def load(self, lanes: int, stride: int = 1) -> Expr:
        assert stride == 1
        return self.load_as("int8", lanes)

    def load_as(self, dtype: str, lanes: int) -> Expr:
        """Bytes are widened before they are taken apart: x86 has shifts of 16 bits, and none of 8."""
        assert self.place % lanes == 0
        pair, is_second = divmod(self.place // lanes, 2)
        both = Pointer(self.buffer, self.offset + pair * lanes).load(lanes)
        unsigned = f"u{dtype}"
        wide = tirx.reinterpret(f"uint8x{lanes}", both).astype(f"{unsigned}x{lanes}")
        number = tirx.Broadcast(tirx.const(BITS if is_second else LOWER, unsigned), lanes)
        above = wide >> number if is_second else wide & number
        return tirx.reinterpret(f"{dtype}x{lanes}", above) + self._least(lanes).astype(f"{dtype}x{lanes}")

    def _least(self, lanes: int) -> Expr:
        """What each of these weights is stored above."""
        vector, within = divmod(self.place, len(self.channels))
        channels = list(self.channels[within : within + lanes])
        least = self.least[vector]
        enough = -(-lanes // least.ty.dtype.lanes)  # a shuffle makes no more lanes than it reads
        return tirx.Shuffle([least] * enough, channels)


@dataclass(frozen=True)
class NibbleDot(Dot):
    """Weights of 4 bits above the least ones, which the sums know of; inputs as those of `whole`, which multiplies."""

    whole: Dot = dataclasses.field(kw_only=True)

    least_bytes: ClassVar[int] = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.whole.name}-4bit"

    @property
    def step_bytes(self) -> int:
        return self.whole.step_bytes * BITS // 8

    def read_as(self, dtype: str) -> str:
        return self.whole.read_as(dtype)

    def above_least(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least = _least(weights)
        above = weights - least.reshape(-1, *[1] * (weights.ndim - 1))
        return above, least.astype(np.int8).reshape(-1, self.least_bytes)

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights as `above_least` gives them."""
        packed = self.whole.pack(weights).astype(np.uint8)
        loads = packed.reshape(*packed.shape[:-1], -1, 2, self.whole.load_lanes)
        both = loads[..., 0, :] | loads[..., 1, :] << BITS
        return both.reshape(*packed.shape[:-1], -1).view(np.int8)

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        return self.whole.begin(columns, vectors, bias)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        assert sums.least is not None
        least = tuple((sums.least + vector * self.lanes).load(self.lanes) for vector in range(sums.vectors))
        numbers = np.repeat(np.arange(self.lanes), self.depth).reshape(self.lanes, self.depth)
        channels = tuple(map(int, self.whole.pack(numbers)))
        self.whole.step(sums, inputs, _Nibbles(weights.buffer, weights.offset, 0, least, channels))

    def results(self, sums: Sums) -> tirx.Var:
        return self.whole.results(sums)

    def registers(self, columns: int, vectors: int) -> int:
        return self.whole.registers(columns, vectors) + 2

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        loads = vectors * self.lanes * self.depth / self.whole.load_lanes
        unpacking = OPERATIONS * loads / (2 * target.fma_per_cycle)
        return self.whole.cycles(columns, vectors, target) + unpacking


def in_nibbles(dot: Dot, depth: int, weights: np.ndarray) -> NibbleDot | None:
    """`dot` on 4 bits of `weights` (channels, ...), whose inputs come in runs of `depth`.

    None where a channel has weights, zero among them, more than 15 apart, or no step takes two loads.
    """
    if not dot.load_lanes or dot.spacing != 1 or weights.dtype != np.int8 or not fits_nibbles(weights):
        return None
    for number in (dot.depth, 2 * dot.depth):
        if depth % number == 0 and dot.lanes * number % (2 * dot.load_lanes) == 0:
            return NibbleDot(dot.lanes, number, whole=dataclasses.replace(dot, depth=number))
    return None


def stays_packed(packed: float, plain: float, weights: int, target: Target) -> bool:
    """Whether a kernel whose sums take so many cycles keeps so many weights in 4 bits; `plain` is with bytes.

    Where the weights' way from memory takes longer than that, half the bytes take half the time.
    """
    from_memory = weights / target.memory_bytes_per_cycle
    return max(packed, from_memory * BITS / 8) <= SLOWER * max(plain, from_memory)


def fits_nibbles(weights: np.ndarray) -> bool:
    """Zero counts as one of a channel's weights: steps and vectors are filled up with it."""
    rows = weights.reshape(len(weights), -1)
    greatest = np.maximum(rows.max(axis=1), 0)
    return bool((greatest - _least(weights) < LEVELS).all())


def _least(weights: np.ndarray) -> np.ndarray:
    return np.minimum(weights.reshape(len(weights), -1).min(axis=1), 0).astype(np.int16)

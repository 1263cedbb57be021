"""Weights of 4, 3 or 2 bits, unpacked in registers: what a channel's weights are above the least of them.

    w[channel][k]  =  least[channel] + u,   0 <= u < 2^bits        so zero points need not be told from integers

A few loads of weights that the instruction takes lie together, byte by byte; the bits of one byte:

    4 bits    2222 1111             two loads in as many bytes as one has
    2 bits    44 33 22 11           four
    3 bits    33 222 111            four, in half as many bytes again: those have 4443 twice, of the first half of the
                                    bytes and of the second; the 3 there is the upper bit of the third load

Masks, shifts and an addition make bytes of them, which are multiplied as ever. Source of the arrangement in 4 bits: the
kernels of XNNPACK and of llama.cpp.
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

SLOWER = 1.25
"""Weights of few bits stay so unless a kernel is estimated to take more than so many times as long with them."""


@dataclass(frozen=True)
class Packing:
    """So many `loads` of weights lie together; `operations` make bytes of one, on average: masks and shifts (bytes have
    no shifts on x86, where it is two), and the addition."""

    bits: int
    loads: int
    operations: float

    @property
    def levels(self) -> int:
        return 1 << self.bits


PACKINGS = (Packing(2, 4, 2.75), Packing(3, 4, 4.25), Packing(4, 2, 2.5))
"""The shortest first."""


@dataclass(frozen=True)
class _Packed(Pointer):
    """Weights of few bits in `buffer` from `offset` on; `place` counts the weights behind it, a known number."""

    packing: Packing = PACKINGS[-1]
    place: int = 0
    least: tuple[Expr, ...] = ()
    channels: tuple[int, ...] = ()

    def __add__(self, elements: Expr | int) -> _Packed:
        return dataclasses.replace(self, place=self.place + int(elements))

    def load(self, lanes: int, stride: int = 1) -> Expr:
        assert stride == 1
        return self.load_as("int8", lanes)

    def load_as(self, dtype: str, lanes: int) -> Expr:
        """Bytes are widened before they are taken apart: x86 has shifts of 16 bits, and none of 8."""
        assert self.place % lanes == 0
        packing, unsigned = self.packing, f"u{dtype}"
        together, number = divmod(self.place // lanes, packing.loads)
        start = self.offset + together * (packing.loads * lanes * packing.bits // 8)
        bytes = self._bytes(start, lanes).astype(f"{unsigned}x{lanes}")
        if packing.bits != 3:
            above = _field(bytes, number * packing.bits, packing.bits)
        elif number < 2:
            above = _field(bytes, number * 3, 3, ends=False)
        else:
            above = self._third_or_fourth(bytes, start + lanes, number)
        return tirx.reinterpret(f"{dtype}x{lanes}", above) + self._least(lanes).astype(f"{dtype}x{lanes}")

    def _bytes(self, start: Expr | int, lanes: int) -> Expr:
        return tirx.reinterpret(f"uint8x{lanes}", Pointer(self.buffer, start).load(lanes))

    def _third_or_fourth(self, bytes: Expr, beside: Expr | int, number: int) -> Expr:
        """Of 3 bits, some of which are in half as many bytes from `beside` on."""
        kind = bytes.ty.dtype
        both = self._bytes(beside, kind.lanes // 2)
        halves = [_field(both, shift, 4) for shift in (0, 4)]
        upper = tirx.Shuffle(halves, list(range(kind.lanes))).astype(str(kind))
        if number == 3:
            return upper >> tirx.const(1, str(kind))
        return (bytes >> tirx.const(6, str(kind))) | (
            (upper & tirx.const(1, str(kind))) << tirx.const(2, str(kind))
        )

    def _least(self, lanes: int) -> Expr:
        """What each of these weights is stored above."""
        vector, within = divmod(self.place, len(self.channels))
        channels = list(self.channels[within : within + lanes])
        least = self.least[vector]
        enough = -(-lanes // least.ty.dtype.lanes)  # a shuffle makes no more lanes than it reads
        return tirx.Shuffle([least] * enough, channels)


def _field(bytes: Expr, shift: int, bits: int, *, ends: bool = True) -> Expr:
    """So many bits of each byte; with `ends` nothing lies above the uppermost ones."""
    kind = str(bytes.ty.dtype)
    if shift:
        bytes = bytes >> tirx.const(shift, kind)
    if ends and shift + bits == 8:
        return bytes
    return bytes & tirx.const((1 << bits) - 1, kind)


@dataclass(frozen=True)
class FewBitsDot(Dot):
    """Weights of few bits above the least ones, which the sums know of; `whole` multiplies."""

    whole: Dot = dataclasses.field(kw_only=True)
    packing: Packing = dataclasses.field(kw_only=True)

    least_bytes: ClassVar[int] = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.whole.name}-{self.packing.bits}bit"

    @property
    def step_bytes(self) -> int:
        return self.whole.step_bytes * self.packing.bits // 8

    def read_as(self, dtype: str) -> str:
        return self.whole.read_as(dtype)

    def above_least(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least = _least(weights)
        above = weights - least.reshape(-1, *[1] * (weights.ndim - 1))
        return above, least.astype(np.int8).reshape(-1, self.least_bytes)

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights as `above_least` gives them."""
        packed, bits = self.whole.pack(weights).astype(np.uint8), self.packing.bits
        loads = packed.reshape(*packed.shape[:-1], -1, self.packing.loads, self.whole.load_lanes)
        each = np.moveaxis(loads, -2, 0)
        if bits == 3:
            upper = each[3] << 1 | each[2] >> 2
            first, second = np.split(upper, 2, axis=-1)
            bytes = np.concatenate([each[0] | each[1] << 3 | each[2] << 6, first | second << 4], axis=-1)
        else:
            bytes = np.bitwise_or.reduce([load << number * bits for number, load in enumerate(each)])
        return bytes.reshape(*packed.shape[:-1], -1).view(np.int8)

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        return self.whole.begin(columns, vectors, bias)

    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        assert sums.least is not None
        least = tuple((sums.least + vector * self.lanes).load(self.lanes) for vector in range(sums.vectors))
        numbers = np.repeat(np.arange(self.lanes), self.depth).reshape(self.lanes, self.depth)
        channels = tuple(map(int, self.whole.pack(numbers)))
        packed = _Packed(weights.buffer, weights.offset, self.packing, 0, least, channels)
        self.whole.step(sums, inputs, packed)

    def results(self, sums: Sums) -> tirx.Var:
        return self.whole.results(sums)

    def registers(self, columns: int, vectors: int) -> int:
        return self.whole.registers(columns, vectors) + self.packing.loads

    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        loads = vectors * self.lanes * self.depth / self.whole.load_lanes
        unpacking = self.packing.operations * loads / (2 * target.fma_per_cycle)
        return self.whole.cycles(columns, vectors, target) + unpacking


def in_few_bits(dot: Dot, depth: int, weights: np.ndarray, packing: Packing) -> FewBitsDot | None:
    """`dot` on few bits of `weights` (channels, ...), whose inputs come in runs of `depth`.

    None where a channel has weights, zero among them, that are too far apart, or no step takes the loads that lie
    together.
    """
    if not dot.load_lanes or dot.spacing != 1 or weights.dtype != np.int8 or not fits_bits(weights, packing):
        return None
    together = packing.loads * dot.load_lanes
    for number in (dot.depth, 2 * dot.depth, 4 * dot.depth):
        if depth % number == 0 and dot.lanes * number % together == 0:
            whole = dataclasses.replace(dot, depth=number)
            return FewBitsDot(dot.lanes, number, whole=whole, packing=packing)
    return None


def stays_packed(packed: float, plain: float, weights: int, packing: Packing, target: Target) -> bool:
    """Whether a kernel whose sums take so many cycles keeps so many weights in few bits; `plain` is with bytes.

    Where the weights' way from memory takes longer than that, half the bytes take half the time.
    """
    from_memory = weights / target.memory_bytes_per_cycle
    return max(packed, from_memory * packing.bits / 8) <= SLOWER * max(plain, from_memory)


def fits_bits(weights: np.ndarray, packing: Packing) -> bool:
    """Zero counts as one of a channel's weights: steps and vectors are filled up with it."""
    rows = weights.reshape(len(weights), -1)
    greatest = np.maximum(rows.max(axis=1), 0)
    return bool((greatest - _least(weights) < packing.levels).all())


def _least(weights: np.ndarray) -> np.ndarray:
    return np.minimum(weights.reshape(len(weights), -1).min(axis=1), 0).astype(np.int16)

"""What multiplies: the functions of `firmware/c_products.py`, behind one interface.

A run is so many neighbouring inputs of a pixel. A function adds the products of one run with the weights of each
channel to the sums of a tile; kernels know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.llvm import features_of
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.nibbles import in_nibbles

Shape = tuple[int, int]
"""Pixels and channels of a tile."""

PRODUCTS = {8: "products", 4: "nibble_products"}
"""What functions are called, by the bits of a weight."""

CALL = 12
"""Instructions around a run: pointers, and loops that begin and end."""


class Inner(Protocol):
    """One way to multiply."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def element(self) -> str:
        """The type that inputs are brought into."""

    @property
    def depth(self) -> int:
        """Runs are filled up to a multiple of it."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Tiles that fit the registers."""

    @property
    def bits(self) -> int:
        """Of a weight: 8 or 4."""

    @property
    def shift(self) -> int:
        """Sums are so many bits to the left of what they are."""

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """(..., channels of a tile, run) in the order that is walked, flat."""

    def add(
        self,
        sums: tirx.Var,
        shape: Shape,
        x: Pointer,
        step: Expr | int,
        weights: Pointer,
        number: Expr,
        run: int,
    ) -> None:
        """Add run `number` of `weights`, all that `pack` made; pixels are `step` inputs apart."""

    def instructions(self, shape: Shape, run: int) -> float:
        """Of a run, estimated."""


@dataclass(frozen=True)
class Plain:
    """Any core: numbers are multiplied one by one."""

    shapes: Sequence[Shape]
    element: str
    name: str = "plain"
    depth: int = 1
    bits: ClassVar[int] = 8
    shift: ClassVar[int] = 0

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(weights.swapaxes(-1, -2)).reshape(-1)

    def add(
        self,
        sums: tirx.Var,
        shape: Shape,
        x: Pointer,
        step: Expr | int,
        weights: Pointer,
        number: Expr,
        run: int,
    ) -> None:
        kind, place = "" if self.element == "int8" else "short_", number * (shape[1] * run * self.bits // 8)
        call(f"{kind}{PRODUCTS[self.bits]}_{shape[0]}x{shape[1]}", sums, x, step, weights + place, run)

    def instructions(self, shape: Shape, run: int) -> float:
        pixels, channels = shape
        return CALL + run * (pixels + channels + pixels * channels + 4)


@dataclass(frozen=True)
class Dual:
    """The DSP extension: two numbers of 16 bits at once."""

    name: str = "dual"
    element: str = "int16"
    depth: int = 2
    shapes: Sequence[Shape] = ((4, 2), (3, 2), (2, 2), (1, 8), (1, 4), (1, 2))
    bits: ClassVar[int] = 8
    shift: ClassVar[int] = 0

    def pack(self, weights: np.ndarray) -> np.ndarray:
        *outer, channels, run = weights.shape
        split = weights.reshape(*outer, channels // 2, 2, run // 2, 2)
        order = (*range(len(outer)), -2, -4, -1, -3)
        return np.ascontiguousarray(np.transpose(split, [axis % split.ndim for axis in order])).reshape(-1)

    def add(
        self,
        sums: tirx.Var,
        shape: Shape,
        x: Pointer,
        step: Expr | int,
        weights: Pointer,
        number: Expr,
        run: int,
    ) -> None:
        place = number * (shape[1] * run * self.bits // 8)
        call(f"dual_{PRODUCTS[self.bits]}_{shape[0]}x{shape[1]}", sums, x, step, weights + place, run // 2)

    def instructions(self, shape: Shape, run: int) -> float:
        pixels, channels = shape
        return CALL + run / 2 * (1.5 * channels + pixels * (channels + 1) + 2)


@dataclass(frozen=True)
class PlainNibbles(Plain):
    """Weights of 4 bits, two in a byte."""

    name: str = "plain-4bit"
    depth: int = 2
    bits: ClassVar[int] = 4

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return in_nibbles(super().pack(weights), 1)

    def instructions(self, shape: Shape, run: int) -> float:
        return super().instructions(shape, run) + run * shape[1] / 2


@dataclass(frozen=True)
class DualNibbles(Dual):
    """Weights of 4 bits, two words in one: they are multiplied where they lie in their bytes, as 16 times so much."""

    name: str = "dual-4bit"
    depth: int = 4
    bits: ClassVar[int] = 4
    shift: ClassVar[int] = 4

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return in_nibbles(super().pack(weights), 4)

    def instructions(self, shape: Shape, run: int) -> float:
        return super().instructions(shape, run) + run / 4 * shape[1]


SIXTEEN_REGISTERS: Sequence[Shape] = ((4, 2), (3, 2), (2, 2), (1, 4), (1, 2), (1, 1))
EIGHT_REGISTERS: Sequence[Shape] = ((2, 1), (1, 2), (1, 1))
MANY_REGISTERS: Sequence[Shape] = ((4, 4), *SIXTEEN_REGISTERS)


def inner_for(target: Target, dtype: str) -> Inner:
    """The best one that the target's processor has, for images of `dtype`."""
    if target.family == "arm" and "dsp" in features_of(target):
        return Dual()
    if target.family != "arm":
        return Plain(MANY_REGISTERS, dtype)
    return Plain(EIGHT_REGISTERS if target.triple.startswith("thumbv6m") else SIXTEEN_REGISTERS, dtype)


def in_four_bits(inner: Inner) -> Inner:
    """The one that takes weights of 4 bits where `inner` takes bytes."""
    if isinstance(inner, Dual):
        return DualNibbles()
    assert isinstance(inner, Plain)
    return PlainNibbles(inner.shapes, inner.element)


def call(name: str, *operands: tirx.Var | Pointer | Expr | int) -> None:
    """A statement that calls a function of C text; buffers and pointers are passed by their address."""
    passed = [_passed(operand) for operand in operands]
    T.evaluate(tirx.call_extern("int32", name, *passed))


def _passed(operand: tirx.Var | Pointer | Expr | int) -> Expr | int:
    if isinstance(operand, Pointer):
        return tirx.address_of(operand.buffer[operand.offset])
    if isinstance(operand, tirx.Var) and hasattr(operand.ty, "shape"):
        return tirx.address_of(operand[0])
    return operand


def scratch(elements: int, dtype: str) -> tirx.Var:
    """A buffer that functions write and read: TVM would make it as small as what it sees of their operands."""
    buffer = T.alloc_buffer((elements,), dtype)
    T.buffer_store(buffer, tirx.const(0, dtype), [elements - 1])
    return buffer

"""A place in a flat buffer, and vectors loaded from and stored to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import tvm
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.kernel import element_type


@dataclass(frozen=True)
class Pointer:
    """The elements of `buffer` from `offset` on."""

    buffer: tirx.Var
    offset: Expr | int = 0

    @property
    def dtype(self) -> str:
        """What the elements are."""
        return element_type(self.buffer)

    def __add__(self, elements: Expr | int) -> Self:
        return dataclasses.replace(self, offset=self.offset + elements)

    def element(self) -> Expr:
        """The next element."""
        return self.buffer[self.offset]

    def load(self, lanes: int, stride: int = 1) -> Expr:
        """The next `lanes` elements, or every so many, as a vector."""
        return self.buffer[tirx.Ramp(self.offset, stride, lanes)]

    def load_as(self, dtype: str, lanes: int) -> Expr:
        """The same as numbers of a wider type."""
        return self.load(lanes).astype(f"{dtype}x{lanes}")

    def store(self, vector: Expr) -> None:
        """Write a vector over the next elements."""
        lanes = vector.ty.dtype.lanes
        T.buffer_store(self.buffer, vector, [tirx.Ramp(self.offset, 1, lanes)])


@dataclass(frozen=True)
class Words(Pointer):
    """Numbers of int32 that lie in a buffer of narrower integers; `offset` counts those."""

    @property
    def elements_per_word(self) -> int:
        return 32 // tvm.DataType(self.dtype).bits

    def __add__(self, elements: Expr | int) -> Self:
        return super().__add__(elements * self.elements_per_word)

    def load(self, lanes: int, stride: int = 1) -> Expr:
        """The next `lanes` numbers, which lie side by side."""
        assert stride == 1
        return tirx.reinterpret(f"int32x{lanes}", super().load(lanes * self.elements_per_word))


@dataclass(frozen=True)
class Masked(Pointer):
    """Zeros where `mask` is 0, not -1."""

    mask: Expr | None = None

    def load(self, lanes: int, stride: int = 1) -> Expr:
        assert self.mask is not None
        return super().load(lanes, stride) & tirx.Broadcast(self.mask.astype(self.dtype), lanes)

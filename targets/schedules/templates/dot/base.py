"""What every instruction set's dot product offers to the kernels that are driven by it.

A kernel keeps a tile of sums, `columns` neighbouring outputs of `vectors` vectors of channels, and adds to it in steps:

    sums[column][channel] += sum over k < depth of x[column][k] * w[channel][k]

It knows nothing of the instruction: `pack` arranges the weights of a step, `begin` makes the sums, `step` adds to them,
`results` gives them as plain vectors of int32. All of it is exact, whatever the operands.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.device import Target
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.kernel import spread

OVERHEAD = 0.1
"""Cycles that a load takes from the arithmetic."""

Inputs = Sequence[Pointer | None]
"""For each column where its inputs of a step lie, one after another; None where it has none (outside the image)."""


@dataclass(frozen=True)
class Sums:
    """The sums of a tile in registers: `buffer` as the instruction wants them, and the bias where it is still due.

    `least` are the numbers, one for each channel, that weights are stored above, where that is so.
    """

    buffer: tirx.Var
    columns: int
    vectors: int
    bias: Pointer | None = None
    least: Pointer | None = None

    def above(self, least: Pointer) -> Sums:
        """The same, with weights stored above these."""
        return dataclasses.replace(self, least=least)


@dataclass(frozen=True)
class Dot(ABC):
    """One instruction's way to multiply bytes.

    `lanes` are the output channels in a vector of results, `depth` the input channels of a step. The weights of a
    vector lie `spacing` times as far from those of the next as they are long.
    """

    lanes: int
    depth: int
    spacing: int = dataclasses.field(default=1, kw_only=True)
    name: ClassVar[str]
    least_bytes: ClassVar[int] = 0
    """What each channel has beside its weights."""
    rows_read: ClassVar[int] = 1
    """Columns that are read at once, whether there are so many or not."""
    results_in_memory: ClassVar[bool] = False
    """`results` are no registers, and may be read in a loop."""

    @contextmanager
    def tasks(self, count: int, work: int, target: Target) -> Iterator[Expr]:
        """A loop over `count` independent tasks, whose sums are made in it; see `kernel.spread`."""
        with spread(count, work) as task:
            yield task

    @property
    def load_lanes(self) -> int:
        """Weights that `step` loads at once, all of them so; 0 where loads differ."""
        return 0

    @property
    def step_bytes(self) -> int:
        """Elements from the packed weights of one vector for a step to those of the next."""
        return self.lanes * self.depth * self.spacing

    def read_as(self, dtype: str) -> str:
        """The type in which `step` reads inputs that are stored as `dtype`; the kernel widens what differs."""
        return dtype

    def above_least(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (channels, ...) as `pack` takes them, and what is stored beside: int8 (channels, least_bytes)."""
        return weights, np.empty((len(weights), self.least_bytes), np.int8)

    @abstractmethod
    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights [..., lanes, depth] in the order of a step, [..., lanes * depth].

        A tile's step reads its vectors one after another: [vectors, lanes * depth].
        """

    def begin(self, columns: int, vectors: int, bias: Pointer | None = None) -> Sums:
        """Sums of nothing but the bias: int32 for each channel of the tile."""
        size = columns * vectors * self.lanes
        sums = Sums(T.alloc_buffer((size,), "int32", scope="local"), columns, vectors)
        for column, vector in places(sums):
            start = tirx.Broadcast(tirx.const(0, "int32"), self.lanes)
            if bias is not None:
                start = (bias + vector * self.lanes).load(self.lanes)
            self.sum_at(sums, column, vector).store(start)
        return sums

    @abstractmethod
    def step(self, sums: Sums, inputs: Inputs, weights: Pointer) -> None:
        """Add the products of `depth` inputs of each column with the weights of each vector."""

    def results(self, sums: Sums) -> tirx.Var:
        """A buffer of int32, [column, vector, lane]."""
        return sums.buffer

    def sum_at(self, sums: Sums, column: int, vector: int) -> Pointer:
        """Where the results of a vector lie."""
        return Pointer(sums.buffer, (column * sums.vectors + vector) * self.lanes)

    # --- what a tile costs ---

    @abstractmethod
    def registers(self, columns: int, vectors: int) -> int:
        """Vector registers that a tile needs."""

    @abstractmethod
    def cycles(self, columns: int, vectors: int, target: Target) -> float:
        """Estimated cycles of a step of a tile."""


def kept_whole(buffer: tirx.Var, elements: int) -> tirx.Var:
    """`buffer`, all of it: TVM cuts one to the elements that it sees accessed, and what an instruction reads or writes
    by address it does not see."""
    T.buffer_store(buffer, tirx.const(0, str(buffer.ty.dtype)), [elements - 1])
    return buffer


def places(sums: Sums) -> Iterator[tuple[int, int]]:
    """Columns and vectors of a tile."""
    return product(range(sums.columns), range(sums.vectors))


def busiest(arithmetic: float, loads: int, target: Target) -> float:
    """Cycles of instructions that overlap; loads take issue slots from the arithmetic, too."""
    return max(arithmetic, loads / target.loads_per_cycle) + OVERHEAD * loads


def intrinsic(name: str, dtype: str, *operands: Expr) -> Expr:
    """A call of one of LLVM's functions without side effects."""
    return tirx.call_llvm_pure_intrin(dtype, name, *operands)


def interleaved(weights: np.ndarray, group: int) -> np.ndarray:
    """[..., lanes, depth] as [..., depth / group, lanes, group], flat: each lane's next `group` inputs together."""
    *leading, lanes, depth = weights.shape
    split = weights.reshape(*leading, lanes, depth // group, group)
    return np.ascontiguousarray(np.moveaxis(split, -2, -3)).reshape(*leading, lanes * depth)

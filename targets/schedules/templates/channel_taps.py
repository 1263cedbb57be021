"""Products of bytes, one channel a lane: how each instruction set multiplies the taps of a depthwise convolution.

A block has 16 channels. A tap is multiplied together with others, or alone:

- in quads (`channel_quads`): bytes of four taps side by side, multiplied and added to 32 bits at once (VNNI, SDOT);
- in halves: two products of int8 fit 16 bits where no weight is -128 (ARM: SMULL, SMLAL, SADDW);
- in pairs: int16 of both taps side by side, alike (x86: PMADDWD);
- in full: in 32 bits, whatever the operands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.base import intrinsic
from graphopt.targets.schedules.templates.dot.pairs import INTRINSICS
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.starts import BLOCK

Place = tuple[int, int]
"""Row and column of a tap."""

Group = tuple[Place, ...]
"""One tap, or some that are multiplied together."""


class ChannelTaps(ABC):
    """How the taps of `kernel` are packed, as `dtype`, and added to the sums of a block."""

    name: ClassVar[str]
    lines: ClassVar[int] = 1
    """Rows of taps whose weights lie together."""
    spare: ClassVar[int] = 4
    """Registers for products, beside sums and the weights of a row."""

    def __init__(self, kernel: tuple[int, int], dtype: str = "int8") -> None:
        self.kernel = kernel
        self.dtype = dtype

    @property
    def line_elements(self) -> int:
        """Elements of the packed weights of a block for each row of taps."""
        return self.kernel[1] * BLOCK

    @property
    def block_elements(self) -> int:
        """Elements of the packed weights of a block."""
        return -(-self.kernel[0] // self.lines) * self.lines * self.line_elements

    @abstractmethod
    def groups(self, inside: Sequence[Place]) -> list[Group]:
        """The taps in the order they are read, those together that are multiplied together."""

    @abstractmethod
    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights [block, row, column, lane], flat."""

    @abstractmethod
    def add(self, sums: Pointer, group: Group, read: Callable[[Place], Pointer], weights: Pointer) -> None:
        """Add the products of a group of taps to 16 sums; `read` tells where the bytes of a tap are, `weights` where
        those of the block begin."""


class InHalves(ChannelTaps):
    """Any two taps; their weights lie tap by tap."""

    name = "halves"
    together: ClassVar[int] = 2

    def groups(self, inside: Sequence[Place]) -> list[Group]:
        return [tuple(inside[n : n + self.together]) for n in range(0, len(inside), self.together)]

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return weights.reshape(-1).astype(self.dtype)

    def add(self, sums: Pointer, group: Group, read: Callable[[Place], Pointer], weights: Pointer) -> None:
        products = [self._product(read(tap), weights + self._number(tap) * BLOCK) for tap in group]
        total = products[0] if len(products) == 1 else products[0] + products[1]
        sums.store(sums.load(BLOCK) + total.astype(f"int32x{BLOCK}"))

    def _number(self, tap: Place) -> int:
        return tap[0] * self.kernel[1] + tap[1]

    def _product(self, x: Pointer, weights: Pointer) -> Expr:
        return _as(x, "int16") * _as(weights, "int16")


class InFull(InHalves):
    """Tap by tap, in 32 bits."""

    name = "full"
    together = 1

    def _product(self, x: Pointer, weights: Pointer) -> Expr:
        return _as(x, "int32") * _as(weights, "int32")


class InPairs(ChannelTaps):
    """Taps of two rows one above the other, for a pair that one output reads the next ones read with other taps.

    Weights are int16: [block, pair of rows, column, part of the block, lane, row].
    """

    name = "pairs"
    lines = 2

    def __init__(self, kernel: tuple[int, int], lanes: int) -> None:
        super().__init__(kernel, "int16")
        self.lanes = lanes

    def groups(self, inside: Sequence[Place]) -> list[Group]:
        """The last row of an odd number is alone."""
        return [
            (tap, below) if (below := (tap[0] + 1, tap[1])) in inside else (tap,)
            for tap in inside
            if tap[0] % 2 == 0
        ]

    def pack(self, weights: np.ndarray) -> np.ndarray:
        blocks, rows, columns, _ = weights.shape
        even = np.zeros((blocks, rows + rows % 2, columns, BLOCK), np.int16)
        even[:, :rows] = weights
        split = even.reshape(blocks, -1, 2, columns, BLOCK // self.lanes, self.lanes)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 5, 2)).reshape(-1)

    def add(self, sums: Pointer, group: Group, read: Callable[[Place], Pointer], weights: Pointer) -> None:
        (row, column), *_ = group
        lanes, wide = self.lanes, f"int16x{2 * self.lanes}"
        first = weights + (row // 2 * self.kernel[1] + column) * 2 * BLOCK
        bytes = [read(tap).load(BLOCK) for tap in group]
        for part in range(0, BLOCK, lanes):
            factor = (first + 2 * part).load(2 * lanes)
            products = intrinsic(
                INTRINSICS[lanes], f"int32x{lanes}", self._side_by_side(bytes, part, wide), factor
            )
            place = sums + part
            place.store(place.load(lanes) + products)

    def _side_by_side(self, bytes: list[Expr], part: int, wide: str) -> Expr:
        """The channels from `part` on of both taps as int16; of a tap alone as int32, whose low half is the number."""
        channels = range(part, part + self.lanes)
        if len(bytes) == 1:
            alone = bytes[0] if self.lanes == BLOCK else tirx.Shuffle(bytes, list(channels))
            return tirx.reinterpret(wide, alone.astype(f"int32x{self.lanes}"))
        places = [place for channel in channels for place in (channel, BLOCK + channel)]
        return tirx.Shuffle(bytes, places).astype(wide)


def _as(pointer: Pointer, dtype: str) -> Expr:
    return pointer.load(BLOCK).astype(f"{dtype}x{BLOCK}")

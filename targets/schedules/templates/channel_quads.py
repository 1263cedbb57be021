"""Products of bytes of a depthwise convolution, four taps of a channel at once (VNNI, SDOT).

    rows one above the other   a a a a ... | b b b b ... | c c c c ... | 0   -->   a b c 0 a b c 0 ...

What lies above each other is put side by side once for all outputs along the row that read it. A 3x3 kernel is three
such columns, whose fourth row is zero.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from tvm import tirx

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.channel_taps import ChannelTaps, Group, Place
from graphopt.targets.schedules.templates.dot.base import intrinsic
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.dot.vnni import vpdpbusd
from graphopt.targets.schedules.templates.starts import BLOCK

QUAD = 4


class InQuads(ChannelTaps):
    """Taps of up to four rows one above the other, `lanes` channels in an instruction.

    Weights are [block, four rows, column, part of the block, lane, row].
    """

    name = "quads"
    lines = QUAD

    def __init__(self, kernel: tuple[int, int], lanes: int) -> None:
        super().__init__(kernel, "int8")
        self.lanes = lanes

    def groups(self, inside: Sequence[Place]) -> list[Group]:
        """Of the last rows there may be fewer."""
        return [
            tuple((row + below, column) for below in range(QUAD) if (row + below, column) in inside)
            for row, column in inside
            if row % QUAD == 0
        ]

    def pack(self, weights: np.ndarray) -> np.ndarray:
        blocks, rows, columns, _ = weights.shape
        full = np.zeros((blocks, rows + -rows % QUAD, columns, BLOCK), np.int8)
        full[:, :rows] = weights
        split = full.reshape(blocks, -1, QUAD, columns, BLOCK // self.lanes, self.lanes)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 5, 2)).reshape(-1)

    def add(self, sums: Pointer, group: Group, read: Callable[[Place], Pointer], weights: Pointer) -> None:
        (row, column), *_ = group
        lanes = self.lanes
        first = weights + (row // QUAD * self.kernel[1] + column) * QUAD * BLOCK
        quads = self._side_by_side([read(tap).load(BLOCK) for tap in group])
        for part, quad in zip(range(0, BLOCK, lanes), quads, strict=True):
            place, factor = sums + part, (first + QUAD * part).load(QUAD * lanes)
            place.store(self._added(place.load(lanes), quad, factor))

    @abstractmethod
    def _side_by_side(self, rows: list[Expr]) -> list[Expr]:
        """The bytes of all rows channel by channel, part by part of the block."""

    @abstractmethod
    def _added(self, total: Expr, x: Expr, factor: Expr) -> Expr:
        """The sums with the products of quads."""


class QuadsOfX86(InQuads):
    """Inputs uint8 (VNNI)."""

    def _side_by_side(self, rows: list[Expr]) -> list[Expr]:
        """Bytes become words, which are shifted and put together."""
        found = []
        for part in range(0, BLOCK, self.lanes):
            total, kind = None, f"uint32x{self.lanes}"
            for number, row in enumerate(rows):
                own = (
                    row if self.lanes == BLOCK else tirx.Shuffle([row], list(range(part, part + self.lanes)))
                )
                wide = own.astype(kind) << tirx.const(8 * number, kind) if number else own.astype(kind)
                total = wide if total is None else total | wide
            found.append(tirx.reinterpret(f"int8x{QUAD * self.lanes}", total))
        return found

    def _added(self, total: Expr, x: Expr, factor: Expr) -> Expr:
        return vpdpbusd(total, x, factor)


class QuadsOfArm(InQuads):
    """Inputs int8 (SDOT)."""

    spare: ClassVar[int] = 8

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__(kernel, QUAD)

    def _side_by_side(self, rows: list[Expr]) -> list[Expr]:
        """ZIP1 and ZIP2, of bytes and then of pairs."""
        zeros = [tirx.Broadcast(tirx.const(0, "int8"), BLOCK)] * (QUAD - len(rows))
        full = [*rows, *zeros]
        upper, lower = _zipped(full[0], full[1], "int8"), _zipped(full[2], full[3], "int8")
        pairs = zip(upper, lower, strict=True)
        return [part for one, other in pairs for part in _zipped(one, other, "int16")]

    def _added(self, total: Expr, x: Expr, factor: Expr) -> Expr:
        return intrinsic("llvm.aarch64.neon.sdot.v4i32.v16i8", "int32x4", total, x, factor)


def _zipped(a: Expr, b: Expr, dtype: str) -> list[Expr]:
    """Elements of both in turn, as two vectors of bytes."""
    lanes = BLOCK if dtype == "int8" else BLOCK // 2
    views = [tirx.reinterpret(f"{dtype}x{lanes}", vector) for vector in (a, b)]
    order = [place for n in range(lanes) for place in (n, lanes + n)]
    halves = [tirx.Shuffle(views, order[start : start + lanes]) for start in (0, lanes)]
    return [tirx.reinterpret(f"int8x{BLOCK}", half) for half in halves]

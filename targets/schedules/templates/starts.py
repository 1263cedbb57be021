"""Where sums of integers start.

    sum over taps inside of (x - z) w + b  =  sum over taps inside of x w  +  (b - z * sum over taps inside of w)

So the zero point z is part of the number that a sum starts with. It differs where taps fall outside: for each set of
rows and of columns of the kernel that are inside there is a start of its own, one number for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.targets.lower.pooling import table
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.tile import Row
from graphopt.targets.schedules.templates.window import Window

BLOCK = 16
"""Channels in a block of what is made."""


@dataclass(frozen=True)
class Starts:
    """Starts of sums by the taps inside: `rows` and `columns` of the result lie in classes of like windows, whose taps
    `row_taps` and `column_taps` are."""

    zero: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_taps: tuple[tuple[int, ...], ...]
    column_taps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, window: Window, zero: int) -> Starts:
        """With a zero point of 0 all windows are alike."""
        rows, row_taps = _classes(window.rows, zero)
        columns, column_taps = _classes(window.row, zero)
        return cls(zero, rows, columns, row_taps, column_taps)

    @property
    def count(self) -> int:
        return len(self.row_taps) * len(self.column_taps)

    def number(self, row: Expr | None, column: int | None) -> Expr | int:
        """Which start an output of `row` and `column` has; None is any whose taps are all inside."""
        across = _most(self.column_taps) if column is None else self.columns[column]
        down = _most(self.row_taps) if row is None else table(row, list(self.rows), "int32")
        return down * len(self.column_taps) + across

    def is_whole(self, column: int) -> bool:
        """All taps along the row are inside."""
        return self.columns[column] == _most(self.column_taps)

    def pack(self, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """As [start, filter], of weights (filters, channels, rows, columns) and a bias (filters,)."""
        by_tap = weights.astype(np.int64).sum(axis=1)
        own = np.zeros(len(weights), np.int64) if bias is None else bias.astype(np.int64)
        starts = [
            own - self.zero * by_tap[:, rows][:, :, columns].sum(axis=(1, 2))
            for rows in map(list, self.row_taps)
            for columns in map(list, self.column_taps)
        ]
        return np.stack(starts).astype(np.int32)


def _most(taps: Sequence[tuple[int, ...]]) -> int:
    return max(range(len(taps)), key=lambda kind: len(taps[kind]))


def _classes(row: Row, zero: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """For each output its class, for each class the taps inside."""
    whole = tuple(range(row.taps))
    inside = [
        whole if zero == 0 else tuple(t for t in whole if 0 <= row.position(output, t) < row.inputs)
        for output in range(row.outputs)
    ]
    kinds = list(dict.fromkeys(inside))
    return tuple(kinds.index(taps) for taps in inside), tuple(kinds)

"""Tiles of accumulators: how many columns and vectors, and how a row is cut into them.

A tile holds `columns` neighbouring outputs of `vectors` vectors each. For every step of the reduction it loads
`vectors` weight vectors and `columns` inputs, and does `columns * vectors` multiply-adds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from graphopt.targets.device import Target

WIDEST = 32
"""Columns of the largest tile that is tried."""


@dataclass(frozen=True)
class Segment:
    """`count` tiles of `columns` outputs from column `start` on; at a `border` some taps fall outside."""

    start: int
    count: int
    columns: int
    border: bool


@dataclass(frozen=True)
class Row:
    """A row of `outputs`, made of windows of `taps` over `inputs` elements with `pad` zeros before."""

    outputs: int
    inputs: int
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def position(self, column: int, tap: int) -> int:
        """Where in the input tap `tap` of output `column` reads; outside below 0 or from `inputs` on."""
        return column * self.stride + tap * self.dilation - self.pad

    def is_inside(self, start: int, columns: int) -> bool:
        """No tap of these outputs falls outside."""
        last = self.position(start + columns - 1, self.taps - 1)
        return self.position(start, 0) >= 0 and last < self.inputs

    def segments(self, columns: int) -> list[Segment]:
        """The row cut into tiles, neighbours of one kind together; what is left over at the end is a tile too."""
        tiles = [(start, min(columns, self.outputs - start)) for start in range(0, self.outputs, columns)]
        found = []
        for (inside, width), group in itertools.groupby(tiles, lambda t: (self.is_inside(*t), t[1])):
            members = list(group)
            if inside:
                found.append(Segment(members[0][0], len(members), width, False))
            else:
                found.extend(Segment(start, 1, width, True) for start, _ in members)
        return found


def best_tile(
    outputs: int, vectors: int, target: Target, *, hold: bool = False, parts: int = 1, weights: int = 1
) -> tuple[int, int]:
    """Columns and vectors of the tile that takes the fewest estimated cycles for a step of the whole layer.

    The layer has `outputs` columns in a row and `vectors` vectors of channels. With `hold` the inputs of a tile are
    kept in registers too. Each sum is kept in `parts` that do not wait for each other; the weights of so many steps
    as `weights` tells are in registers at once.
    """
    best, best_cost = (1, 1), float("inf")
    for wide in range(1, min(vectors, 8) + 1):
        for columns in range(1, min(outputs, WIDEST) + 1):
            if _registers(columns, wide, hold, parts, weights) > target.vector_registers:
                break
            cost = _layer_cost(outputs, vectors, columns, wide, target, parts)
            if cost < best_cost * 0.999:
                best, best_cost = (columns, wide), cost
    return best


def fitting_vectors(vectors: int, columns: int, target: Target, *, hold: bool = False) -> int:
    """The most of `vectors` that a tile of `columns` has registers for; at least one."""
    registers = target.vector_registers
    fitting = [v for v in range(1, vectors + 1) if _registers(columns, v, hold, 1, 1) <= registers]
    return max(fitting, default=1)


def _registers(columns: int, vectors: int, hold: bool, parts: int, weights: int) -> int:
    """Accumulators, weights, and what the inputs need."""
    return columns * vectors * parts + vectors * weights + (columns if hold else 1)


def _layer_cost(outputs: int, vectors: int, columns: int, wide: int, target: Target, parts: int) -> float:
    whole, rest = divmod(outputs, columns)
    total = 0.0
    for width, times in ((wide, vectors // wide), (vectors % wide, 1)):
        if width and times:
            row = whole * _step_cost(columns, width, target, parts)
            row += _step_cost(rest, width, target, parts) if rest else 0.0
            total += times * row
    return total


def _step_cost(columns: int, vectors: int, target: Target, parts: int) -> float:
    """Cycles of one reduction step of a tile: the busiest of arithmetic, loads and latency."""
    arithmetic = columns * vectors / target.fma_per_cycle
    loads = (columns + vectors) / target.loads_per_cycle
    return max(arithmetic, loads, target.fma_latency / parts) + 0.1

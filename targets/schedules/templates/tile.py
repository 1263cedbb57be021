"""Tiles of accumulators: how many columns and vectors, and how a row is cut into them.

A tile holds `columns` neighbouring outputs of `vectors` vectors each. For every step of the reduction it loads
`vectors` weight vectors and `columns` inputs, and does `columns * vectors` multiply-adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from graphopt.targets.device import Target

WIDEST = 32
"""Columns of the largest tile that is tried."""

SPARE_IN_HALF = 4
"""Registers that a tile of float16 leaves free: only the lower half of them has lanes that a multiply-add can pick."""

OVERHEAD = 0.1
"""Cycles that an instruction beside the arithmetic takes from it."""

IN_ORDER_LOAD = 3.0
"""Cycles that a load takes from the arithmetic of a core that works in order."""


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


@dataclass(frozen=True)
class Held:
    """Inputs that a tile keeps in registers: how many for so many columns, and for how many steps they serve."""

    registers: Callable[[int], int]
    steps: int

    @classmethod
    def along(cls, lanes: int) -> Held:
        """A vector along the reduction for each column."""
        return cls(lambda columns: columns, lanes)


def best_tile(
    outputs: int,
    vectors: int,
    target: Target,
    *,
    held: Held | None = None,
    parts: int = 1,
    weights: int = 1,
    wide: int | None = None,
    dtype: str = "float32",
) -> tuple[int, int]:
    """Columns and vectors of the tile that takes the fewest estimated cycles for a step of the whole layer.

    The layer has `outputs` columns in a row and `vectors` vectors of channels. Inputs are `held`, or read one by one.
    Each sum is kept in `parts` that do not wait for each other; the weights of so many steps as `weights` tells are in
    registers at once. `wide` tells how many vectors it has to be, where weights are packed for that already.
    A core that works in order loads all weights but one of the next step ahead. In the `dtype` float16 inputs are held
    in the lower half of the registers, and some are left to choose from.
    """
    usable = target.vector_registers - (SPARE_IN_HALF if dtype == "float16" and held else 0)
    best, best_cost = (1, wide or 1), float("inf")
    for tile in (wide,) if wide else range(1, min(vectors, 8) + 1):
        for columns in range(1, min(outputs, WIDEST) + 1):
            ahead = tile - 1 if target.in_order else 0
            inputs = held.registers(columns) if held else 1
            registers = columns * tile * parts + tile * weights + ahead + inputs
            if registers > usable:
                break
            cost = layer_cost(
                outputs, vectors, columns, tile, lambda c, v: _step_cost(c, v, target, held, parts)
            )
            if cost < best_cost * 0.999:
                best, best_cost = (columns, tile), cost
    return best


def fitting_vectors(vectors: int, columns: int, target: Target, *, hold: bool = False) -> int:
    """The most of `vectors` that a tile of `columns` has registers for; at least one."""
    spare = target.vector_registers - (columns if hold else 1)
    return max(min(vectors, spare // (columns + 1)), 1)


def layer_cost(
    outputs: int, vectors: int, columns: int, wide: int, step_cost: Callable[[int, int], float]
) -> float:
    """Cycles of all tiles of a layer, each of which takes `step_cost` of its columns and vectors."""
    whole, rest = divmod(outputs, columns)
    total = 0.0
    for width, times in ((wide, vectors // wide), (vectors % wide, 1)):
        if width and times:
            row = whole * step_cost(columns, width)
            row += step_cost(rest, width) if rest else 0.0
            total += times * row
    return total


def _step_cost(columns: int, vectors: int, target: Target, held: Held | None, parts: int) -> float:
    """Cycles of one reduction step of a tile: the busiest of arithmetic, loads and latency, and a little overhead.

    Loads of held inputs are instructions of their own, which take issue slots; others are operands of arithmetic. A
    core that works in order waits for loads: for weights in pairs, for the inputs one by one.
    """
    arithmetic = columns * vectors / target.fma_per_cycle
    inputs = held.registers(columns) / held.steps if held else columns
    latency = target.fma_latency / parts
    if target.in_order:
        return max(arithmetic, latency) + IN_ORDER_LOAD * (vectors / 2 + inputs)
    overhead = OVERHEAD * (1 + vectors + inputs if held else 1)
    return max(arithmetic, (vectors + inputs) / target.loads_per_cycle, latency) + overhead

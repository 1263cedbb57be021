"""The tile that a dot product works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.dot.base import Dot
from graphopt.targets.schedules.templates.tile import WIDEST, layer_cost

MOST_VECTORS = 8


@dataclass(frozen=True)
class DotTile:
    """Columns and vectors of a tile; estimated cycles of a step of the whole layer in such tiles."""

    columns: int
    vectors: int
    cycles: float


def tile_of(
    dot: Dot, outputs: int, vectors: int, target: Target, choices: Sequence[int] | None = None
) -> DotTile:
    """The tile that takes the fewest estimated cycles.

    The layer has `outputs` columns in a row and `vectors` vectors of channels; tiles have one of `choices` vectors,
    where they are given.
    """

    def cost(columns: int, wide: int) -> float:
        return layer_cost(outputs, vectors, columns, wide, lambda c, v: dot.cycles(c, v, target))

    first = choices[0] if choices else 1
    best = DotTile(1, first, cost(1, first))
    for wide in choices or range(1, min(vectors, MOST_VECTORS) + 1):
        for columns in range(1, min(outputs, WIDEST) + 1):
            if dot.registers(columns, wide) > target.vector_registers:
                break
            cycles = cost(columns, wide)
            if cycles < best.cycles * 0.999:
                best = DotTile(columns, wide, cycles)
    return best


def best_dot_tile(
    dot: Dot, outputs: int, vectors: int, target: Target, choices: Sequence[int] | None = None
) -> tuple[int, int]:
    """Columns and vectors of `tile_of` the like."""
    tile = tile_of(dot, outputs, vectors, target, choices)
    return tile.columns, tile.vectors
